/**
 * Lists every error code of Cairn: its gRPC status, and whether the caller may retry the same
 * request. A code is never reused for another meaning.
 */
export const errorCodes = {
  /** A field is missing or out of its range. Nothing happened. */
  INVALID_ARGUMENT: { grpc: "INVALID_ARGUMENT", retryable: false },
  /** A limit is exceeded; the text names it. Nothing happened. */
  LIMIT_EXCEEDED: { grpc: "INVALID_ARGUMENT", retryable: false },
  /** Cluster id, node id or protocol version of a message is not this node's. Nothing happened. */
  WRONG_CLUSTER: { grpc: "FAILED_PRECONDITION", retryable: false },
  /** The message's sender leads in a past term. Nothing happened. */
  STALE_TERM: { grpc: "FAILED_PRECONDITION", retryable: false },
  /** The call has no credentials that the node's access file knows. Nothing happened. */
  UNAUTHENTICATED: { grpc: "UNAUTHENTICATED", retryable: false },
  /**
   * The caller is known, and lacks a role or a key prefix; the text names it. Nothing happened. An
   * open stream ends with it when the access file no longer allows it.
   */
  PERMISSION_DENIED: { grpc: "PERMISSION_DENIED", retryable: false },
  /** The node's state does not allow the request. Nothing happened. */
  FAILED_PRECONDITION: { grpc: "FAILED_PRECONDITION", retryable: false },
  /** The index does not exist yet, or no longer. Nothing happened. */
  OUT_OF_RANGE: { grpc: "OUT_OF_RANGE", retryable: false },
  /** The named object does not exist. */
  NOT_FOUND: { grpc: "NOT_FOUND", retryable: false },
  /** The lease does not exist, or has ended. Nothing happened. */
  LEASE_NOT_FOUND: { grpc: "NOT_FOUND", retryable: false },
  /** This node does not lead, or no leader is known. Nothing happened. */
  NOT_LEADER: { grpc: "UNAVAILABLE", retryable: true },
  /** The node is stopping or has stopped. Nothing happened. */
  STOPPED: { grpc: "UNAVAILABLE", retryable: true },
  /**
   * The node cannot be reached, or the connection broke during a call that changes nothing. Nothing
   * happened.
   */
  UNREACHABLE: { grpc: "UNAVAILABLE", retryable: true },
  /** Too much work is queued. Nothing happened; retry later. */
  BUSY: { grpc: "RESOURCE_EXHAUSTED", retryable: true },
  /**
   * Too many calls wait in this client; the text names the limit. Nothing happened; retry when some
   * of them have ended.
   */
  QUEUE_FULL: { grpc: "RESOURCE_EXHAUSTED", retryable: true },
  /**
   * Other writers changed what a transaction had read, as often as it was tried. Nothing happened;
   * retry later.
   */
  CONFLICT: { grpc: "ABORTED", retryable: true },
  /** A watch was not read fast enough, and has ended. It may be resumed after its last answer. */
  SLOW_WATCHER: { grpc: "RESOURCE_EXHAUSTED", retryable: true },
  /** The disk is full. Nothing happened; retry later. */
  DISK_FULL: { grpc: "RESOURCE_EXHAUSTED", retryable: true },
  /** A write may or may not take effect. Only a request with a request id may be retried. */
  OUTCOME_UNKNOWN: { grpc: "ABORTED", retryable: false },
  /**
   * The cluster cannot tell the request's client id from one that it has forgotten. Nothing
   * happened now; an earlier attempt of the same request may have taken effect. `since` is an index
   * for a new client id.
   */
  SESSION_EXPIRED: { grpc: "ABORTED", retryable: false },
  /**
   * No answer arrived in time. A write may or may not take effect; when CairnClient says so,
   * nothing happened.
   */
  TIMEOUT: { grpc: "DEADLINE_EXCEEDED", retryable: false },
  /**
   * The caller gave up. A write may or may not take effect; when CairnClient says so, nothing
   * happened.
   */
  CANCELLED: { grpc: "CANCELLED", retryable: false },
  /** Bytes on disk or from a peer do not match their checksum. */
  CORRUPT: { grpc: "DATA_LOSS", retryable: false },
  /** The data directory is in use, belongs to another node or cluster, or has another format. */
  DATA_DIRECTORY: { grpc: "FAILED_PRECONDITION", retryable: false },
  /** The disk failed, and its contents are no longer known. The process must stop. */
  STORAGE_FAILED: { grpc: "INTERNAL", retryable: false },
  /** Planned, and not implemented yet. */
  UNIMPLEMENTED: { grpc: "UNIMPLEMENTED", retryable: false },
  /** A bug. */
  INTERNAL: { grpc: "INTERNAL", retryable: false },
} as const;

export type CairnErrorCode = keyof typeof errorCodes;

/** The optional details of an error besides its code and text. */
export interface CairnErrorOptions {
  readonly cause?: unknown;
  readonly leaderHint?: string | undefined;
  readonly leaderAddress?: string | undefined;
  readonly retryAfterMs?: number | undefined;
  readonly since?: number | undefined;
  readonly oldestIndex?: number | undefined;
}

/** The one error class that Cairn's interfaces throw. */
export class CairnError extends Error {
  override readonly name = "CairnError";
  /** Id of the node to ask instead, when the error concerns leadership and the leader is known. */
  readonly leaderHint: string | undefined;
  /** host:port of that node as its peers reach it, when known. */
  readonly leaderAddress: string | undefined;
  /** Retry after this many milliseconds; undefined: no advice. */
  readonly retryAfterMs: number | undefined;
  /** With SESSION_EXPIRED: a log index to pass as `since` with a new client id. */
  readonly since: number | undefined;
  /** With OUT_OF_RANGE of a watch: the oldest index that the node can begin with. */
  readonly oldestIndex: number | undefined;

  constructor(
    readonly code: CairnErrorCode,
    text: string,
    options: CairnErrorOptions = {},
  ) {
    super(`[${code}] ${text}`, options.cause === undefined ? undefined : { cause: options.cause });
    this.leaderHint = options.leaderHint;
    this.leaderAddress = options.leaderAddress;
    this.retryAfterMs = options.retryAfterMs;
    this.since = options.since;
    this.oldestIndex = options.oldestIndex;
  }

  /** Whether the caller may retry the same request, at this node or another. */
  get retryable(): boolean {
    return errorCodes[this.code].retryable;
  }

  /** The message without its code. */
  get text(): string {
    return this.message.slice(this.code.length + 3);
  }

  /** Converts any thrown value to a CairnError; a foreign error becomes INTERNAL. */
  static from(error: unknown): CairnError {
    if (error instanceof CairnError) return error;
    const text = error instanceof Error ? error.message : String(error);
    return new CairnError("INTERNAL", text, { cause: error });
  }
}

/**
 * Returns the error code that a word from the network names; undefined when this version does not
 * know it.
 */
export function errorCodeOf(word: string | undefined): CairnErrorCode | undefined {
  return word !== undefined && Object.hasOwn(errorCodes, word) ? (word as CairnErrorCode) : undefined;
}

/**
 * Whether an error reports a lack of disk space or of descriptors: nothing has changed, and the
 * caller may retry at any time.
 */
export function isShortage(error: unknown): error is CairnError {
  return hasCode(error, "DISK_FULL") || hasCode(error, "BUSY");
}

/** Whether a thrown value is a CairnError with this code. */
export function hasCode(error: unknown, code: CairnErrorCode): error is CairnError {
  return error instanceof CairnError && error.code === code;
}
