import type { DescMethod } from "@bufbuild/protobuf";
import { CairnError } from "../../base/errors.js";
import type { RaftView } from "../../node/views.js";
import type { ServerCallContext } from "../../rpc/call_context.js";
import type { AccessedCall, CallerAccess, ShownCredentials } from "../../rpc/security/caller_access.js";
import { type CallerCertificate, describeCaller } from "../../rpc/security/caller_certificate.js";
import { type Clock, systemClock } from "../../system/clock.js";
import { type Logger, silentLogger } from "../../system/logger.js";
import { type PeerProof, readAccessFile } from "./access_file.js";
import { AccessAudit } from "./audit.js";
import { Caller, IngressCaller, type RulesInForce } from "./caller.js";
import { clientShown } from "./ingress_client.js";
import { isAllowed, lackOf, opennessOf } from "./judgement.js";
import { MEMBER_ITSELF, metadataKeys } from "./metadata_keys.js";
import { type MethodRule, methodRules } from "./method_rules.js";
import type { Policy } from "./policy.js";
import { memberRights, type Rights } from "./rights.js";
import { bearerToken } from "./tokens.js";
import { stampOf, watchFile } from "./watched_file.js";

// Decides who may call a node, and for what.

export interface AccessOptions {
  /** Path of the access file. */
  readonly file: string;
  /** Proof of a member. Default "token": that of a caller of the file with the role peer. */
  readonly peerProof?: PeerProof | undefined;
  readonly logger?: Logger | undefined;
  readonly clock?: Clock | undefined;
}

/** The node whose calls are judged. */
export interface GuardedNode {
  readonly raft: RaftView;
}

/** The name in the node's own certificate. */
export interface OwnCertificate {
  readonly node: { readonly cluster: string } | undefined;
}

/**
 * Decides who may call a node, and what. It judges every call once before its handler runs; the
 * handlers ask it about the keys of a call. When the file changes, open streams are judged again,
 * and those that are no longer allowed end.
 */
export class AccessControl implements RulesInForce {
  readonly audit: AccessAudit;
  readonly #ingress = new IngressCaller(this);
  #policy: Policy;
  #generation = 0;
  /** Callers by the `authorization` header; only valid ones are kept. */
  readonly #byAuthorization = new Map<string, Caller>();
  #byCertificate = new WeakMap<CallerCertificate, Caller>();
  /** Callers for whom a member vouches, by member and name. */
  readonly #vouched = new Map<string, Caller>();
  readonly #streams = new Set<ServerCallContext>();
  #node: GuardedNode | undefined;
  #own: OwnCertificate | undefined;
  #stopWatching: () => void = () => {};

  readonly #logger: Logger;

  private constructor(policy: Policy, logger: Logger, clock: Clock) {
    this.#policy = policy;
    this.#logger = logger;
    this.audit = new AccessAudit(logger, clock);
  }

  /**
   * Reads an access file, and follows its changes. A changed file that is not valid is reported,
   * and the rules stay as they were.
   * @throws CairnError INVALID_ARGUMENT, naming the place in the file
   */
  static open({ file, peerProof, logger = silentLogger, clock = systemClock }: AccessOptions): AccessControl {
    const reload = () => {
      try {
        control.replace(readAccessFile(file, peerProof));
        logger.info({ audit: "rules", path: file }, "the access file has changed, and is in force");
      } catch (error) {
        const reason = CairnError.from(error).text;
        logger.error(
          { audit: "rules", path: file, reason },
          "the access file has changed and is not valid: the old rules stay",
        );
      }
    };
    // The file's stamp is taken before its text, so that no change is missed.
    const stamp = stampOf(file);
    const control = new AccessControl(readAccessFile(file, peerProof), logger, clock);
    control.#stopWatching = watchFile(file, stamp, reload);
    return control;
  }

  /** Stops following the file. */
  close(): void {
    this.#stopWatching();
    this.audit.close();
  }

  get policy(): Policy {
    return this.#policy;
  }

  get generation(): number {
    return this.#generation;
  }

  /** Puts other rules in force, and judges the open streams by them. */
  replace(policy: Policy): void {
    this.#policy = policy;
    this.#generation++;
    this.#byAuthorization.clear();
    this.#byCertificate = new WeakMap();
    this.#vouched.clear();
    for (const context of [...this.#streams]) {
      try {
        context.checkAgain();
      } catch (error) {
        // A stream that cannot be ended must not save the others from it.
        this.#logger.error({ err: error, method: context.path }, "a stream could not be judged by the changed rules");
      }
    }
  }

  /** Whether an `authorization` header has the token of a caller with the role peer. */
  isPeerToken(authorization: string | undefined): boolean {
    const token = authorization === undefined ? undefined : bearerToken(authorization);
    return token !== undefined && this.#policy.withToken(token)?.isPeer === true;
  }

  /** Returns the guard of a node's services. */
  guardOf(
    node: GuardedNode,
    own: OwnCertificate | undefined,
  ): (method: DescMethod, context: ServerCallContext) => void {
    this.#node = node;
    this.#own = own;
    return ({ methodKind }, context) => this.admit(context, methodKind !== "unary");
  }

  /**
   * Judges a call, and notes its caller in the context.
   * @throws CairnError UNAUTHENTICATED, PERMISSION_DENIED
   */
  admit(context: ServerCallContext, isStream: boolean): void {
    const rule = methodRules.get(context.path);
    const certificate = certificateShown(context);
    // Before anything else: a token does not make up for a stolen certificate, nor an open service.
    const checkRevoked = () => this.#checkRevoked(certificate, context);
    if (isStream) context.keepChecking(checkRevoked);
    else checkRevoked();
    if (this.#isOpen(rule)) {
      if (isStream) this.#follow(context, () => this.#checkOpen(rule, context, certificate));
      return;
    }
    const caller = this.#callerOf(context, certificate);
    context.access = caller;
    if (rule?.needs === "admin") this.#auditEnd(context, caller);
    if (isStream) this.#follow(context, () => this.#judge(caller, rule, context));
    else this.#judge(caller, rule, context);
  }

  vouchedCaller(name: string, member: Caller, call: AccessedCall): CallerAccess {
    if (member.kind !== "member") throw member.refusal(call, "the role peer, which alone vouches for other callers");
    this.#checkMember(member, call);
    if (name === MEMBER_ITSELF) return member;
    const key = `${member.name} ${name}`;
    const known = this.#vouched.get(key);
    if (known !== undefined) return known;
    const find = (policy: Policy) => withoutPeer(policy.named(name));
    const rights = find(this.#policy);
    if (rights === undefined) {
      const text =
        name === ""
          ? "a caller for whom it passes the call on: give all members the same access file"
          : `a caller with the name that it vouches for, ${JSON.stringify(name.slice(0, 80))}: give all members the same access file`;
      throw member.refusal(call, text);
    }
    const caller = new Caller(this, rights, { find, via: member.name });
    this.#vouched.set(key, caller);
    return caller;
  }

  shownCaller({ authorization, certificate }: ShownCredentials, call: AccessedCall): Caller {
    if (this.#isRevoked(certificate)) throw this.#unauthenticated(call, REVOKED, describeCaller(certificate));
    if (authorization !== undefined) return this.#withToken(authorization, call);
    if (certificate !== undefined) return this.#withCertificate(certificate, call);
    throw this.#unauthenticated(
      call,
      "no credentials came with the call: it needs a client certificate or the metadata authorization: Bearer TOKEN",
    );
  }

  #isRevoked(certificate: CallerCertificate | undefined): boolean {
    return certificate !== undefined && this.#policy.revoked.has(certificate.fingerprint);
  }

  /** @throws CairnError UNAUTHENTICATED for a certificate that was revoked */
  #checkRevoked(certificate: CallerCertificate | undefined, context: ServerCallContext): void {
    if (!this.#isRevoked(certificate)) return;
    // Its owner may have another one by now, and must connect anew to show it.
    if (!context.isIngress) context.closeConnection();
    throw this.#unauthenticated(context, REVOKED, describeCaller(certificate));
  }

  #callerOf(context: ServerCallContext, certificate: CallerCertificate | undefined): CallerAccess {
    const { metadata } = context;
    if (context.isIngress && metadata.get(metadataKeys.ingress) !== undefined) return this.#ingress;
    const caller = this.shownCaller({ authorization: metadata.get("authorization"), certificate }, context);
    const vouched = metadata.get(metadataKeys.caller);
    if (vouched !== undefined || metadata.get(metadataKeys.forwardedBy) !== undefined) {
      return this.vouchedCaller(vouched ?? "", caller, context);
    }
    return caller;
  }

  #withToken(authorization: string, call: AccessedCall): Caller {
    const known = this.#byAuthorization.get(authorization);
    if (known !== undefined) return known;
    const token = bearerToken(authorization);
    if (token === undefined) throw this.#unauthenticated(call, "the metadata authorization must be: Bearer TOKEN");
    const find = (policy: Policy) => policy.withToken(token);
    const rights = find(this.#policy);
    if (rights === undefined) throw this.#unauthenticated(call, "the access file has no caller with this token");
    const caller = new Caller(this, rights, { find });
    this.#byAuthorization.set(authorization, caller);
    return caller;
  }

  #withCertificate(certificate: CallerCertificate, call: AccessedCall): Caller {
    const known = this.#byCertificate.get(certificate);
    if (known !== undefined) return known;
    const caller = certificate.authority === "peer" ? this.#peer(certificate, call) : this.#client(certificate, call);
    this.#byCertificate.set(certificate, caller);
    return caller;
  }

  #client(certificate: CallerCertificate, call: AccessedCall): Caller {
    const find = (policy: Policy) => {
      const found = policy.withCertificate(certificate);
      return found.length === 1 ? withoutPeer(found[0]) : undefined;
    };
    const rights = find(this.#policy);
    if (rights !== undefined) return new Caller(this, rights, { find });
    const isUnclear = this.#policy.withCertificate(certificate).length > 1;
    const text = isUnclear
      ? "the names of the certificate are those of several callers of the access file"
      : "the access file has no caller with a name of this certificate";
    throw this.#unauthenticated(call, text);
  }

  #peer({ node }: CallerCertificate, call: AccessedCall): Caller {
    if (node === undefined || node.cluster !== this.#own?.node?.cluster) {
      throw this.#unauthenticated(call, "the certificate is of a node of another cluster");
    }
    const rights = memberRights(`member ${node.id}`);
    return new Caller(this, rights, { find: () => rights, nodeId: node.id });
  }

  /** @throws CairnError PERMISSION_DENIED */
  #judge(caller: CallerAccess, rule: MethodRule | undefined, call: AccessedCall): void {
    if (rule === undefined) throw caller.refusal(call, "a rule for this method: nobody may call it");
    if (!(caller instanceof Caller)) {
      if (call.path !== SESSION_PATH) throw caller.refusal(call, "the right to call anything but Session");
      return;
    }
    const { rights } = caller;
    // The caller may have other credentials by now, and can come again with them.
    if (!caller.isKnown && caller.via === undefined) throw this.#unauthenticated(call, FORMER, rights.name);
    if (!isAllowed(rule, rights)) throw caller.refusal(call, `the ${lackOf(rule)}`);
    // The service of the members checks for itself who belongs to the cluster, or comes to it.
    if (rights.isPeer && rule.needs !== "peer" && rule.needs !== "known") this.#checkMember(caller, call);
  }

  /**
   * Checks that a certificate is of a present member: a node that was removed still has its own.
   * @throws CairnError PERMISSION_DENIED
   */
  #checkMember(caller: Caller, call: AccessedCall): void {
    const { nodeId } = caller;
    const members = this.#node?.raft.membership.members ?? [];
    if (nodeId === undefined || members.some(({ id }) => id === nodeId)) return;
    throw caller.refusal(call, "a place among the members of this cluster");
  }

  #isOpen(rule: MethodRule | undefined): boolean {
    return opennessOf(rule, this.#policy) === "open";
  }

  #checkOpen(
    rule: MethodRule | undefined,
    context: ServerCallContext,
    certificate: CallerCertificate | undefined,
  ): void {
    if (!this.#isOpen(rule)) this.#judge(this.#callerOf(context, certificate), rule, context);
  }

  /** Has a stream judged now, and again when the rules change. */
  #follow(context: ServerCallContext, judge: () => void): void {
    context.keepChecking(judge);
    this.#streams.add(context);
    context.onEnd(() => this.#streams.delete(context));
  }

  #auditEnd(context: ServerCallContext, caller: CallerAccess): void {
    // A refusal has a line of its own.
    const { path: method, peer: from } = context;
    const via = caller instanceof Caller ? caller.via : undefined;
    context.onEnd((error) => {
      if (error?.code !== "PERMISSION_DENIED") {
        this.audit.adminCall({ caller: caller.name, via, from, method }, error?.code ?? "OK");
      }
    });
  }

  #unauthenticated({ path, peer }: AccessedCall, text: string, caller = "unknown"): CairnError {
    this.audit.refused({ caller, from: peer, method: path }, "UNAUTHENTICATED", text);
    return new CairnError("UNAUTHENTICATED", text);
  }
}

const REVOKED = "the access file has revoked the certificate of this connection: connect with another one";

const FORMER = "the access file no longer has the credentials with which the stream began: begin it again with others";

const SESSION_PATH = "/cairn.v1.KeyValueService/Session";

/** Returns the certificate of a call's client, which may have come by an ingress process. */
function certificateShown(context: ServerCallContext): CallerCertificate | undefined {
  if (!context.isIngress) return context.certificate;
  const { metadata } = context;
  if (metadata.get(metadataKeys.ingress) !== undefined) return undefined;
  const client = clientShown(metadata.get(metadataKeys.client));
  context.clientAddress = client?.address;
  return client?.certificate;
}

/** A member proves itself by its own credentials: nobody else may vouch for one. */
function withoutPeer(rights: Rights | undefined): Rights | undefined {
  return rights?.isPeer === true ? undefined : rights;
}
