import * as grpc from "@grpc/grpc-js";
import { CairnError } from "../base/errors.js";
import { statusFromError } from "./status.js";

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
