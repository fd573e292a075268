import { CairnError } from "../../base/errors.js";
import type { AccessedCall, CallerAccess, KeyRole, ShownCredentials } from "../../rpc/security/caller_access.js";
import type { AccessAudit } from "./audit.js";
import type { Policy } from "./policy.js";
import { holdsKey, holdsSpan, isEmpty, noRights, type Rights } from "./rights.js";

/** The rules by which callers are judged, at the time of each question. */
export interface RulesInForce {
  readonly policy: Policy;
  /** Changes with the policy. */
  readonly generation: number;
  readonly audit: AccessAudit;
  /** Returns the caller of this name, for whom a member vouches. @throws CairnError */
  vouchedCaller(name: string, member: Caller, call: AccessedCall): CallerAccess;
  /** Returns the caller with these credentials. @throws CairnError UNAUTHENTICATED */
  shownCaller(credentials: ShownCredentials, call: AccessedCall): CallerAccess;
}

export interface CallerOptions {
  /** Finds its rights in a policy; undefined: the policy does not know it. */
  readonly find: (policy: Policy) => Rights | undefined;
  /** The member that vouches for it. */
  readonly via?: string | undefined;
  /** The node id that its certificate names. */
  readonly nodeId?: string | undefined;
}

/** A caller of an access file, or a member: one object serves all calls with its credentials. */
export class Caller implements CallerAccess {
  readonly #rules: RulesInForce;
  readonly #options: CallerOptions;
  #rights: Rights;
  #isKnown = true;
  #generation: number;

  constructor(rules: RulesInForce, rights: Rights, options: CallerOptions) {
    this.#rules = rules;
    this.#rights = rights;
    this.#options = options;
    this.#generation = rules.generation;
  }

  /** Its rights now. */
  get rights(): Rights {
    this.#lookAgain();
    return this.#rights;
  }

  /** Whether the rules in force know it by the credentials that it has shown. */
  get isKnown(): boolean {
    this.#lookAgain();
    return this.#isKnown;
  }

  get name(): string {
    return this.rights.name;
  }

  get via(): string | undefined {
    return this.#options.via;
  }

  get nodeId(): string | undefined {
    return this.#options.nodeId;
  }

  get kind(): "client" | "member" {
    return this.rights.isPeer ? "member" : "client";
  }

  has(role: KeyRole): boolean {
    return !isEmpty(this.rights.keys[role]);
  }

  hasAll(role: KeyRole): boolean {
    return this.rights.keys[role] === "all";
  }

  hasKey(role: KeyRole, key: Uint8Array): boolean {
    return holdsKey(this.rights.keys[role], key);
  }

  hasSpan(role: KeyRole, start: Uint8Array, end: Uint8Array | undefined): boolean {
    return holdsSpan(this.rights.keys[role], start, end);
  }

  /** Takes its rights from the rules in force, if those have changed. */
  #lookAgain(): void {
    if (this.#generation === this.#rules.generation) return;
    this.#generation = this.#rules.generation;
    const found = this.#options.find(this.#rules.policy);
    this.#isKnown = found !== undefined;
    this.#rights = found ?? noRights(this.#rights.name);
  }

  refusal({ path, peer }: AccessedCall, missing: string): CairnError {
    const { name, via } = this;
    this.#rules.audit.refused({ caller: name, via, from: peer, method: path }, "PERMISSION_DENIED", missing);
    return new CairnError("PERMISSION_DENIED", `${name} lacks ${missing}`);
  }

  vouched(name: string, call: AccessedCall): CallerAccess {
    return this.#rules.vouchedCaller(name, this, call);
  }

  shown(_credentials: ShownCredentials, call: AccessedCall): CallerAccess {
    throw this.refusal(call, "the place of an ingress process of this node, which alone shows others' credentials");
  }
}

/** An ingress process of the node: it may do nothing itself. */
export class IngressCaller implements CallerAccess {
  readonly name = "ingress";
  readonly kind = "ingress";

  constructor(private readonly rules: RulesInForce) {}

  has(): boolean {
    return false;
  }

  hasAll(): boolean {
    return false;
  }

  hasKey(): boolean {
    return false;
  }

  hasSpan(): boolean {
    return false;
  }

  refusal({ path, peer }: AccessedCall, missing: string): CairnError {
    this.rules.audit.refused({ caller: this.name, from: peer, method: path }, "PERMISSION_DENIED", missing);
    return new CairnError("PERMISSION_DENIED", `an ingress process lacks ${missing}`);
  }

  vouched(_name: string, call: AccessedCall): CallerAccess {
    throw this.refusal(call, "the role peer, which alone vouches for others");
  }

  shown(credentials: ShownCredentials, call: AccessedCall): CallerAccess {
    const caller = this.rules.shownCaller(credentials, call);
    // No rule of a method bounds these calls, and nothing else bounds a member.
    if (caller.kind === "client") return caller;
    throw caller.refusal(call, "a reason to come by an ingress process: members use the node's own port");
  }
}
