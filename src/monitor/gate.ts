import type { IncomingMessage } from "node:http";
import { CairnError } from "../base/errors.js";
import type { AccessedCall } from "../rpc/security/caller_access.js";
import type { AccessControl } from "../server/access/access_control.js";
import type { Caller } from "../server/access/caller.js";
import { requirePrefix } from "../server/access/checks.js";
import { pathOf } from "./http_server.js";

/**
 * The right that a request needs. `known`: the metrics and the page, for every caller of the access
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
    const caller = callerOf(access, request, call);
    if (typeof need === "object") requirePrefix({ ...call, access: caller }, "reader", need.readsPrefix);
    else if (!isAllowed(caller, need)) throw caller.refusal(call, lackOf(need));
    return () => isAllowed(caller, need === "admin" ? "admin" : "known");
  }

  /** Returns whether the caller of a request that was checked may carry out actions. */
  mayAct(request: IncomingMessage): boolean {
    const { access } = this;
    return access === undefined || isAllowed(callerOf(access, request, callOf(request)), "admin");
  }

  /**
   * Carries out an action of an admin, and notes it in the audit.
   * @throws CairnError UNAUTHENTICATED, PERMISSION_DENIED; and what the action throws
   */
  async audited<Done>(request: IncomingMessage, act: () => Promise<Done>): Promise<Done> {
    this.check(request, "admin");
    const { access } = this;
    if (access === undefined) return act();
    const call = callOf(request);
    const facts = { caller: callerOf(access, request, call).name, from: call.peer, method: call.path };
    try {
      const done = await act();
      access.audit.adminCall(facts, "OK");
      return done;
    } catch (error) {
      access.audit.adminCall(facts, CairnError.from(error).code);
      throw error;
    }
  }
}

function callerOf(access: AccessControl, { headers }: IncomingMessage, call: AccessedCall): Caller {
  return access.shownCaller({ authorization: headers.authorization, certificate: undefined }, call);
}

function isAllowed(caller: Caller, need: "known" | "admin"): boolean {
  const { isAdmin } = caller.rights;
  return isAdmin || (need === "known" && caller.has("reader"));
}

function lackOf(need: "known" | "admin"): string {
  return need === "admin" ? "role admin" : "place of a caller in the access file";
}

function callOf(request: IncomingMessage): AccessedCall {
  const { remoteAddress, remotePort } = request.socket;
  return { path: pathOf(request), peer: `${remoteAddress}:${remotePort}` };
}
