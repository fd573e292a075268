import { CairnError, type CairnErrorCode } from "../base/errors.js";

/** The error codes of the gateway's protocol. */
export const gatewayCodes = {
  timeout: 0,
  nodeNotFound: 1,
  notSupported: 10,
  temporarilyUnavailable: 11,
  malformedRequest: 12,
  crash: 13,
  keyDoesNotExist: 20,
  preconditionFailed: 22,
} as const;

export type GatewayCode = (typeof gatewayCodes)[keyof typeof gatewayCodes];

/** A request that is answered with an error. */
export class GatewayError extends Error {
  override readonly name = "GatewayError";

  constructor(
    readonly code: GatewayCode,
    readonly text: string,
  ) {
    super(text);
  }

  static from(error: unknown): GatewayError {
    if (error instanceof GatewayError) return error;
    const cairn = CairnError.from(error);
    return new GatewayError(byCairnCode[cairn.code], cairn.text);
  }
}

const byCairnCode: Readonly<Record<CairnErrorCode, GatewayCode>> = {
  INVALID_ARGUMENT: gatewayCodes.malformedRequest,
  LIMIT_EXCEEDED: gatewayCodes.malformedRequest,
  WRONG_CLUSTER: gatewayCodes.preconditionFailed,
  STALE_TERM: gatewayCodes.preconditionFailed,
  UNAUTHENTICATED: gatewayCodes.preconditionFailed,
  PERMISSION_DENIED: gatewayCodes.preconditionFailed,
  FAILED_PRECONDITION: gatewayCodes.preconditionFailed,
  OUT_OF_RANGE: gatewayCodes.preconditionFailed,
  NOT_FOUND: gatewayCodes.keyDoesNotExist,
  LEASE_NOT_FOUND: gatewayCodes.keyDoesNotExist,
  NOT_LEADER: gatewayCodes.temporarilyUnavailable,
  STOPPED: gatewayCodes.temporarilyUnavailable,
  UNREACHABLE: gatewayCodes.temporarilyUnavailable,
  BUSY: gatewayCodes.temporarilyUnavailable,
  CONFLICT: gatewayCodes.temporarilyUnavailable,
  QUEUE_FULL: gatewayCodes.temporarilyUnavailable,
  SLOW_WATCHER: gatewayCodes.temporarilyUnavailable,
  DISK_FULL: gatewayCodes.temporarilyUnavailable,
  DATA_DIRECTORY: gatewayCodes.temporarilyUnavailable,
  OUTCOME_UNKNOWN: gatewayCodes.crash,
  SESSION_EXPIRED: gatewayCodes.crash,
  TIMEOUT: gatewayCodes.timeout,
  CANCELLED: gatewayCodes.timeout,
  CORRUPT: gatewayCodes.crash,
  STORAGE_FAILED: gatewayCodes.crash,
  UNIMPLEMENTED: gatewayCodes.notSupported,
  INTERNAL: gatewayCodes.crash,
};
