import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import type { CallerCertificate } from "../../rpc/security/caller_certificate.js";
import type { Rights } from "./rights.js";
import { tokenHash } from "./tokens.js";

/** The callers of a service that holds no data: everybody, or each one that is known. */
export type Openness = "open" | "known";

/** A caller of an access file. */
export interface PolicyCaller {
  readonly rights: Rights;
  /** `CN=` and a common name, or a subject alternative name, as `DNS:db.example`. */
  readonly certificates: readonly string[];
  /** See {@link tokenHash}. */
  readonly tokens: readonly string[];
}

/** The contents of an access file. */
export interface PolicySettings {
  readonly health: Openness;
  readonly reflection: Openness;
  readonly callers: readonly PolicyCaller[];
  /** Fingerprints of certificates that are refused, whatever they name. */
  readonly revoked?: readonly string[];
}

interface StoredToken {
  readonly hash: Buffer;
  readonly rights: Rights;
}

/** The rules of one access file: finds callers by their credentials. */
export class Policy {
  readonly health: Openness;
  readonly reflection: Openness;
  readonly callers: readonly PolicyCaller[];
  /** Fingerprints of the certificates that are refused. */
  readonly revoked: ReadonlySet<string>;
  readonly #byName = new Map<string, Rights>();
  readonly #byCertificate = new Map<string, Rights>();
  readonly #byToken = new Map<string, StoredToken>();
  /** The table of tokens is keyed with it: the time of a look-up tells nothing about the hashes. */
  readonly #secret = randomBytes(32);

  constructor({ health, reflection, callers, revoked = [] }: PolicySettings) {
    this.revoked = new Set(revoked);
    this.health = health;
    this.reflection = reflection;
    this.callers = callers;
    for (const { rights, certificates, tokens } of callers) {
      this.#byName.set(rights.name, rights);
      for (const name of certificates) this.#byCertificate.set(name, rights);
      for (const hash of tokens) this.#byToken.set(this.#slotOf(hash), { hash: Buffer.from(hash), rights });
    }
  }

  named(name: string): Rights | undefined {
    return this.#byName.get(name);
  }

  withToken(token: string): Rights | undefined {
    const hash = tokenHash(token);
    const stored = this.#byToken.get(this.#slotOf(hash));
    return stored !== undefined && timingSafeEqual(stored.hash, Buffer.from(hash)) ? stored.rights : undefined;
  }

  /** Returns all callers whose certificate it is: one, if the file is clear about it. */
  withCertificate({ commonName, names }: Pick<CallerCertificate, "commonName" | "names">): Rights[] {
    const found = new Set<Rights>();
    for (const name of commonName === undefined ? names : [`CN=${commonName}`, ...names]) {
      const rights = this.#byCertificate.get(name);
      if (rights !== undefined) found.add(rights);
    }
    return [...found];
  }

  #slotOf(hash: string): string {
    return createHmac("sha256", this.#secret).update(hash).digest("base64");
  }
}
