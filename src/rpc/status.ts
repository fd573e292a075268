import type { DescMethod } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import * as grpc from "@grpc/grpc-js";
import { CairnError, type CairnErrorCode, errorCodeOf, errorCodes } from "../base/errors.js";
import { limits } from "../base/limits.js";
import { limitRefusals } from "../base/telemetry/refusals.js";
import { methodName } from "./codec.js";

// Translates between Cairn's errors and gRPC statuses.

/** Trailing metadata for the fields of an error that a gRPC status has no place for. */
const CODE_KEY = "cairn-code";
const LEADER_KEY = "cairn-leader";
const LEADER_ADDRESS_KEY = "cairn-leader-address";
const RETRY_AFTER_KEY = "retry-after-ms";
const SINCE_KEY = "cairn-since";
const OLDEST_INDEX_KEY = "cairn-oldest-index";

/** Returns the number of the gRPC status for an error code. */
export function statusOfCode(code: CairnErrorCode): number {
  return grpc.status[errorCodes[code].grpc];
}

/** Returns an error as the gRPC status that a server sends. */
export function statusFromError(error: CairnError): { code: grpc.status; details: string; metadata: grpc.Metadata } {
  const metadata = new grpc.Metadata();
  metadata.set(CODE_KEY, error.code);
  setText(metadata, LEADER_KEY, error.leaderHint);
  setText(metadata, LEADER_ADDRESS_KEY, error.leaderAddress);
  setText(metadata, RETRY_AFTER_KEY, error.retryAfterMs?.toString());
  setText(metadata, SINCE_KEY, error.since?.toString());
  setText(metadata, OLDEST_INDEX_KEY, error.oldestIndex?.toString());
  return { code: statusOfCode(error.code), details: sendableText(error.message), metadata };
}

/**
 * Returns a failed call's status as the error that its caller gets. `address` is the server's, for
 * the text.
 */
export function errorFromStatus(status: grpc.StatusObject, method: DescMethod, address: string): CairnError {
  const { metadata } = status;
  const code = errorCodeOf(textValue(metadata, CODE_KEY));
  if (code === undefined) return errorFromForeignStatus(status, method, address);
  const prefix = `[${code}] `;
  const text = status.details.startsWith(prefix) ? status.details.slice(prefix.length) : status.details;
  return new CairnError(code, text, {
    leaderHint: textValue(metadata, LEADER_KEY),
    leaderAddress: textValue(metadata, LEADER_ADDRESS_KEY),
    retryAfterMs: milliseconds(textValue(metadata, RETRY_AFTER_KEY)),
    since: indexIn(textValue(metadata, SINCE_KEY)),
    oldestIndex: indexIn(textValue(metadata, OLDEST_INDEX_KEY)),
  });
}

/**
 * Returns the error of a stream whose calls know their own outcome. For every stream that breaks,
 * {@link errorFromStatus} says OUTCOME_UNKNOWN.
 */
export function streamFailure(error: unknown): CairnError {
  const { code, text } = CairnError.from(error);
  return new CairnError(code === "OUTCOME_UNKNOWN" ? "UNREACHABLE" : code, text, { cause: error });
}

/** The error of one call, within a message that answers many: the fields of a SessionError. */
export interface CallError {
  readonly code: string;
  readonly message: string;
  readonly leaderId: string;
  readonly leaderAddress: string;
  readonly retryAfterMs: number;
  readonly since: bigint;
}

export function toCallError(error: CairnError): CallError {
  return {
    code: error.code,
    message: sendableText(error.text),
    leaderId: error.leaderHint ?? "",
    leaderAddress: error.leaderAddress ?? "",
    retryAfterMs: error.retryAfterMs ?? 0,
    since: BigInt(error.since ?? 0),
  };
}

/**
 * Returns the error that the caller gets. A code that this version does not know becomes INTERNAL.
 */
export function fromCallError({
  code: word,
  message,
  leaderId,
  leaderAddress,
  retryAfterMs,
  since,
}: CallError): CairnError {
  const known = errorCodeOf(word);
  const code: CairnErrorCode = known ?? "INTERNAL";
  return new CairnError(code, known === undefined ? `${word}: ${message}` : message, {
    leaderHint: leaderId || undefined,
    leaderAddress: leaderAddress || undefined,
    retryAfterMs: retryAfterMs || undefined,
    since: code === "SESSION_EXPIRED" ? Number(since) : undefined,
  });
}

/** Returns the first value of a key of the metadata, as text. */
export function textValue(metadata: grpc.Metadata, key: string): string | undefined {
  const value = metadata.get(key)[0];
  return value === undefined ? undefined : value.toString();
}

/**
 * Names the limit when a message is too large, as every other refusal does. grpc-js refuses such a
 * message before any handler sees it, and in its own words.
 */
export const nameMessageLimit: grpc.ServerInterceptor = (_method, call) => {
  const sendStatus = call.sendStatus.bind(call);
  call.sendStatus = (status) => {
    const tooLarge = status.code === grpc.status.RESOURCE_EXHAUSTED && isMessageTooLarge(status.details);
    if (tooLarge) limitRefusals.add(isInflated(status.details) ? "inflateFactor" : "messageBytes");
    sendStatus(tooLarge ? statusFromError(messageTooLarge(status.details)) : status);
  };
  // The type asks for grpc-js's wrapper class, which only adds a layer around the same interface.
  return call as unknown as grpc.ServerInterceptingCall;
};

/**
 * Sends the status of a call with one answer right behind that answer, so that both leave in one
 * packet. grpc-js waits until the answer is written, which is another turn of the event loop.
 */
export const statusWithAnswer: grpc.ServerInterceptor = (method, call) => {
  if (!method.responseStream) {
    const sendMessage = call.sendMessage.bind(call);
    call.sendMessage = (message, written) => {
      sendMessage(message, () => {});
      written();
    };
  }
  return call as unknown as grpc.ServerInterceptingCall;
};

/** Texts of grpc-js for a call that is malformed, which it reports as INTERNAL. */
const MALFORMED = /^(Invalid grpc-timeout value|Failed to decompress message|Error deserializing request)/;

/**
 * Ends a call whose headers, compression or message are malformed, with INVALID_ARGUMENT. grpc-js
 * refuses such a call before any handler sees it, as INTERNAL, which would look like a bug of this
 * server.
 *
 * Drops the answers that the call's handler still sends to earlier messages: grpc-js would write
 * them behind the status, and then sends neither the status nor a reset, so the caller would wait
 * for ever.
 */
export const refuseMalformedCalls: grpc.ServerInterceptor = (_method, call) => {
  const sendStatus = call.sendStatus.bind(call);
  const sendMessage = call.sendMessage.bind(call);
  let hasStatus = false;
  call.sendStatus = (status) => {
    hasStatus = true;
    const isMalformed = status.code === grpc.status.INTERNAL && MALFORMED.test(status.details);
    sendStatus(isMalformed ? statusFromError(malformed(status.details)) : status);
  };
  call.sendMessage = (message, written) => {
    if (!hasStatus) sendMessage(message, written);
  };
  // The type asks for grpc-js's wrapper class, which only adds a layer around the same interface.
  return call as unknown as grpc.ServerInterceptingCall;
};

function malformed(details: string): CairnError {
  return new CairnError("INVALID_ARGUMENT", `the call is malformed: ${details}`);
}

/**
 * Codes for statuses without a cairn-code, which come from another server or from grpc-js itself.
 * All other statuses are INTERNAL.
 */
const foreignCodes: Partial<Record<grpc.status, CairnErrorCode>> = {
  [grpc.status.CANCELLED]: "CANCELLED",
  [grpc.status.INVALID_ARGUMENT]: "INVALID_ARGUMENT",
  [grpc.status.DEADLINE_EXCEEDED]: "TIMEOUT",
  [grpc.status.NOT_FOUND]: "NOT_FOUND",
  [grpc.status.ALREADY_EXISTS]: "FAILED_PRECONDITION",
  [grpc.status.PERMISSION_DENIED]: "PERMISSION_DENIED",
  [grpc.status.UNAUTHENTICATED]: "UNAUTHENTICATED",
  [grpc.status.FAILED_PRECONDITION]: "FAILED_PRECONDITION",
  [grpc.status.RESOURCE_EXHAUSTED]: "LIMIT_EXCEEDED",
  [grpc.status.ABORTED]: "OUTCOME_UNKNOWN",
  [grpc.status.OUT_OF_RANGE]: "OUT_OF_RANGE",
  [grpc.status.UNIMPLEMENTED]: "UNIMPLEMENTED",
  [grpc.status.DATA_LOSS]: "CORRUPT",
};

function errorFromForeignStatus(status: grpc.StatusObject, method: DescMethod, address: string): CairnError {
  const name = methodName(method);
  const { code, details } = status;
  if (isConnectionLost(status) || isTooMuch(status)) return connectionLost(status, method, address);
  if (code === grpc.status.RESOURCE_EXHAUSTED && isMessageTooLarge(details)) return messageTooLarge(details);
  if (code === grpc.status.DEADLINE_EXCEEDED) {
    return new CairnError("TIMEOUT", `${name} on ${address} was not answered in time (${details})`);
  }
  return new CairnError(foreignCodes[code] ?? "INTERNAL", `${name} on ${address}: ${details} (${grpc.status[code]})`);
}

/**
 * Returns whether the connection was lost: UNAVAILABLE, or a stream that ended without any gRPC
 * status. "Call cancelled" is a reset that came from the server.
 */
function isConnectionLost({ code, details }: grpc.StatusObject): boolean {
  if (code === grpc.status.UNAVAILABLE) return true;
  if (code === grpc.status.CANCELLED) return details === "Call cancelled";
  return code === grpc.status.INTERNAL && details.startsWith("Received RST_STREAM");
}

/**
 * Returns whether the server has reset the call because it is too much for it: its headers, or
 * answers that were not read. "Bandwidth exhausted" is what grpc-js makes of such a reset.
 */
function isTooMuch({ code, details }: grpc.StatusObject): boolean {
  return code === grpc.status.RESOURCE_EXHAUSTED && details.startsWith("Bandwidth exhausted");
}

/**
 * Matches the texts of grpc-js for a request that cannot have been acted upon: there was no
 * connection, or the server refused the stream unseen (RFC 9113 section 8.7). Any other broken
 * connection may have broken after the request arrived.
 */
const NEVER_SENT =
  /^(No connection established|Name resolution failed|Channel closed before call started|Stream refused by server)/;

/**
 * Returns the error of a lost connection. It says that nothing happened only when that is certain:
 * a write of unknown fate must not look like one that failed.
 */
function connectionLost(status: grpc.StatusObject, method: DescMethod, address: string): CairnError {
  if (NEVER_SENT.test(status.details)) {
    return new CairnError("UNREACHABLE", `${address} cannot be reached: ${reasonIn(status.details)}`);
  }
  const lost = `the connection to ${address} broke during ${methodName(method)}: ${status.details}`;
  if (method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS) return new CairnError("UNREACHABLE", lost);
  return new CairnError("OUTCOME_UNKNOWN", lost);
}

/** Returns the reason for a failed attempt to connect, without the words of grpc-js around it. */
function reasonIn(details: string): string {
  const [, error] = /^No connection established\. Last error: (.+?)\.? Resolution note: $/s.exec(details) ?? [];
  return (error ?? details).replace(/^Error(?: \[[A-Z_]+\])?: /, "").replace(/ \(\d{4}-\d\d-\d\dT[\d:.]+Z\)$/, "");
}

function isMessageTooLarge(details: string): boolean {
  return /larger than (max \()?\d/.test(details);
}

function isInflated(details: string): boolean {
  return details.includes("decompresses");
}

function messageTooLarge(details: string): CairnError {
  if (isInflated(details)) {
    const most = `messageBytes (${limits.messageBytes}) or inflateFactor (${limits.inflateFactor})`;
    return new CairnError(
      "LIMIT_EXCEEDED",
      `a compressed message is above the limit ${most} when inflated (${details})`,
    );
  }
  const limit = limits.messageBytes;
  return new CairnError(
    "LIMIT_EXCEEDED",
    `a message is above the limit messageBytes (${limit}): send less in one message (${details})`,
  );
}

/** Sets a header. Skips a value that a header cannot hold: it is only a hint. */
function setText(metadata: grpc.Metadata, key: string, value: string | undefined): void {
  if (value !== undefined && PRINTABLE_ASCII.test(value)) metadata.set(key, value);
}

function milliseconds(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,9}$/.test(text) ? Number(text) : undefined;
}

function indexIn(text: string | undefined): number | undefined {
  const index = text !== undefined && /^\d{1,16}$/.test(text) ? Number(text) : undefined;
  return Number.isSafeInteger(index) ? index : undefined;
}

const PRINTABLE_ASCII = /^[\x20-\x7e]+$/;

/**
 * Returns an error's text as it may travel: bounded, because it goes into a header; well-formed,
 * because encoders throw otherwise.
 */
export function sendableText(text: string): string {
  const cut = text.length > limits.errorTextCharacters ? `${text.slice(0, limits.errorTextCharacters)}...` : text;
  return Buffer.from(cut, "utf8").toString("utf8");
}
