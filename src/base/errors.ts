/**
 * The codes of every error that Cairn reports: how each maps to gRPC, and whether the same request
 * may be sent again. A code is never reused for something else.
 */
export const errorCodes = {
  /** A field is missing or out of its range. Nothing happened. */
  INVALID_ARGUMENT: { grpc: "INVALID_ARGUMENT", retryable: false },
  /** A limit is exceeded; the text names it. Nothing happened. */
  LIMIT_EXCEEDED: { grpc: "INVALID_ARGUMENT", retryable: false },
  /** Cluster id, node id or protocol version of a message are not this node's. Nothing happened. */
  WRONG_CLUSTER: { grpc: "FAILED_PRECONDITION", retryable: false },
  /** A message of a leader whose term is over. Nothing happened. */
  STALE_TERM: { grpc: "FAILED_PRECONDITION", retryable: false },
  /** The node is not in a state in which this can be done. Nothing happened. */
  FAILED_PRECONDITION: { grpc: "FAILED_PRECONDITION", retryable: false },
  /** An index that is not there: not yet, or no longer. Nothing happened. */
  OUT_OF_RANGE: { grpc: "OUT_OF_RANGE", retryable: false },
  /** There is no such thing. */
  NOT_FOUND: { grpc: "NOT_FOUND", retryable: false },
  /** This node does not lead, or there is no leader. Nothing happened. */
  NOT_LEADER: { grpc: "UNAVAILABLE", retryable: true },
  /** The node is stopping or has stopped. Nothing happened. */
  STOPPED: { grpc: "UNAVAILABLE", retryable: true },
  /**
   * There is no connection to the node, or it broke during a call that changes nothing. Nothing
   * happened.
   */
  UNREACHABLE: { grpc: "UNAVAILABLE", retryable: true },
  /** Too much is waiting. Nothing happened; try later. */
  BUSY: { grpc: "RESOURCE_EXHAUSTED", retryable: true },
  /**
   * Too many calls wait in this client; the text names the limit. Nothing happened; try again when
   * some have ended.
   */
  QUEUE_FULL: { grpc: "RESOURCE_EXHAUSTED", retryable: true },
  /** The disk is full. Nothing happened; try later. */
  DISK_FULL: { grpc: "RESOURCE_EXHAUSTED", retryable: true },
  /** A write may or may not take effect. Only a request with a request id may be sent again. */
  OUTCOME_UNKNOWN: { grpc: "ABORTED", retryable: false },
  /**
   * The cluster cannot tell the client id of a request from one that it has forgotten. Nothing
   * happened now; an earlier try of the same request may have taken effect. `since` is an index for
   * a new client id.
   */
  SESSION_EXPIRED: { grpc: "ABORTED", retryable: false },
  /**
   * No answer in time. A write may or may not take effect; where CairnClient says it, nothing
   * happened.
   */
  TIMEOUT: { grpc: "DEADLINE_EXCEEDED", retryable: false },
  /**
   * The caller gave up. A write may or may not take effect; where CairnClient says it, nothing
   * happened.
   */
  CANCELLED: { grpc: "CANCELLED", retryable: false },
  /** Bytes on disk or from a peer are not what their checksum says. */
  CORRUPT: { grpc: "DATA_LOSS", retryable: false },
  /** The data directory is in use, belongs to another node or cluster, or is of another format. */
  DATA_DIRECTORY: { grpc: "FAILED_PRECONDITION", retryable: false },
  /** The disk failed in a way after which its contents are not known. The process must stop. */
  STORAGE_FAILED: { grpc: "INTERNAL", retryable: false },
  /** Planned, and not there yet. */
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
}

/** The one class of error that Cairn's interfaces throw. */
export class CairnError extends Error {
  override readonly name = "CairnError";
  /** Id of the node to ask instead, when the error is about leadership and the leader is known. */
  readonly leaderHint: string | undefined;
  /** host:port of that node as its peers reach it, when it is known. */
  readonly leaderAddress: string | undefined;
  /** Try again after this many milliseconds; undefined: no advice. */
  readonly retryAfterMs: number | undefined;
  /** With SESSION_EXPIRED: an index of the log to give as `since` with a new client id. */
  readonly since: number | undefined;

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
  }

  /** Whether the same request may be sent again, to this node or another. */
  get retryable(): boolean {
    return errorCodes[this.code].retryable;
  }

  /** The message without its code. */
  get text(): string {
    return this.message.slice(this.code.length + 3);
  }

  /** Any thrown value as a CairnError; what is none of ours becomes INTERNAL. */
  static from(error: unknown): CairnError {
    if (error instanceof CairnError) return error;
    const text = error instanceof Error ? error.message : String(error);
    return new CairnError("INTERNAL", text, { cause: error });
  }
}

/**
 * A word that came over the network as an error's code; undefined when this version does not know
 * it.
 */
export function errorCodeOf(word: string | undefined): CairnErrorCode | undefined {
  return word !== undefined && Object.hasOwn(errorCodes, word) ? (word as CairnErrorCode) : undefined;
}

/**
 * Whether something was refused for want of room or of descriptors: nothing has changed, and the
 * same may be tried again at any time.
 */
export function isShortage(error: unknown): error is CairnError {
  return hasCode(error, "DISK_FULL") || hasCode(error, "BUSY");
}

/** Whether a thrown value is Cairn's error with this code. */
export function hasCode(error: unknown, code: CairnErrorCode): error is CairnError {
  return error instanceof CairnError && error.code === code;
}
