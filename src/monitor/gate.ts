import type { IncomingMessage } from "node:http";
import { CairnError } from "../base/errors.js";
import type { AccessedCall } from "../rpc/security/caller_access.js";
import type { AccessControl } from "../server/access/access_control.js";
import type { Caller } from "../server/access/caller.js";
import { requirePrefix } from "../server/access/checks.js";

/**
 * What a request must be allowed. `known`: the metrics and the page, for every caller of the access
 * file. `admin`: leases and the holders of locks.
 */
export type HttpNeed = "known" | "admin" | { readonly readsPrefix: Uint8Array };

/** Judges requests by the access file of a node; without one, everybody may see everything. */
export class HttpGate {
  constructor(private readonly access: AccessControl | undefined) {}

  /**
   * Checks a request. Returns a check of the same caller by the rules of later: a stream of events
   * outlives a change of the rules.
   * @throws CairnError UNAUTHENTICATED, PERMISSION_DENIED
   */
  check(request: IncomingMessage, need: HttpNeed): () => boolean {
    const { access } = this;
    if (access === undefined) return () => true;
    const call = callOf(request);
    const caller = access.shownCaller({ authorization: request.headers.authorization, certificate: undefined }, call);
    if (typeof need === "object") requirePrefix({ ...call, access: caller }, "reader", need.readsPrefix);
    else if (!isAllowed(caller, need)) throw caller.refusal(call, lackOf(need));
    return () => isAllowed(caller, need === "admin" ? "admin" : "known");
  }
}

function isAllowed(caller: Caller, need: "known" | "admin"): boolean {
  const { isAdmin } = caller.rights;
  return isAdmin || (need === "known" && caller.has("reader"));
}

function lackOf(need: "known" | "admin"): string {
  return need === "admin" ? "role admin" : "place of a caller in the access file";
}

function callOf({ socket, url = "/" }: IncomingMessage): AccessedCall {
  return { path: url.split("?", 1)[0] ?? "/", peer: `${socket.remoteAddress}:${socket.remotePort}` };
}

/** Returns the HTTP status for an error of a request. */
export function httpStatusOf(error: unknown): number {
  if (!(error instanceof CairnError)) return 500;
  switch (error.code) {
    case "UNAUTHENTICATED":
      return 401;
    case "PERMISSION_DENIED":
      return 403;
    case "INVALID_ARGUMENT":
    case "LIMIT_EXCEEDED":
      return 400;
    default:
      return 500;
  }
}
