import * as grpc from "@grpc/grpc-js";
import { CairnError } from "../base/errors.js";
import { statusFromError } from "./status.js";

/** Texts of grpc-js for a call that is malformed, which it reports as INTERNAL. */
const MALFORMED = /^(Invalid grpc-timeout value|Failed to decompress message|Error deserializing request)/;

/**
 * Answers INVALID_ARGUMENT to a call whose headers, compression or message are malformed. grpc-js
 * refuses such a call before any handler sees it, as INTERNAL, which would look like a bug of this
 * server.
 */
export const refuseMalformedCalls: grpc.ServerInterceptor = (_method, call) => {
  const sendStatus = call.sendStatus.bind(call);
  call.sendStatus = (status) => {
    const isMalformed = status.code === grpc.status.INTERNAL && MALFORMED.test(status.details);
    sendStatus(isMalformed ? statusFromError(malformed(status.details)) : status);
  };
  // The type asks for grpc-js's wrapper class, which only adds a layer around the same interface.
  return call as unknown as grpc.ServerInterceptingCall;
};

function malformed(details: string): CairnError {
  return new CairnError("INVALID_ARGUMENT", `the call is malformed: ${details}`);
}
