import { constants, type ServerHttp2Stream } from "node:http2";
import type { CairnError } from "../../base/errors.js";
import { overLimit } from "../../base/telemetry/refusals.js";
import { statusFromError } from "../status.js";
import type { FloodLimits } from "./flood_limits.js";

// Refuses calls that would exceed a limit.

/** Time after which a refused caller may try again, in milliseconds. */
const RETRY_AFTER_MS = 200;

/**
 * Returns the error of a call that was refused because of a limit: nothing happened. It has no
 * stack trace, which would take longer than all else that a refusal needs.
 */
export function overFloodLimit(limits: FloodLimits, name: keyof FloodLimits, text: string): CairnError {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    return overLimit("BUSY", name, `${text}: the limit ${name} is ${limits[name]}. Try again later`, {
      retryAfterMs: RETRY_AFTER_MS,
    });
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

/** Answers a stream with an error before grpc-js sees it. */
export function refuseStream(stream: ServerHttp2Stream, error: CairnError): void {
  // The connection may break meanwhile.
  stream.on("error", () => {});
  if (stream.destroyed || stream.closed) return;
  const { code, details, metadata } = statusFromError(error);
  const headers = { ":status": 200, "content-type": "application/grpc+proto", "grpc-status": code };
  stream.respond({ ...headers, "grpc-message": encodeURI(details), ...metadata.toHttp2Headers() }, { endStream: true });
  stream.close(constants.NGHTTP2_NO_ERROR);
}
