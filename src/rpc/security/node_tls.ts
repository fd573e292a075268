import { createHash, type X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { SecureServerOptions } from "node:http2";
import { setTimeout as pause } from "node:timers/promises";
import type { SecureContext, SecureContextOptions } from "node:tls";
import type * as grpc from "@grpc/grpc-js";
import { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import { chainOf, isSignedBy } from "./authorities.js";
import {
  alternativeNames,
  type CallerCertificate,
  commonNameOf,
  type NodeName,
  nodeNamed,
  plainFingerprint,
} from "./caller_certificate.js";
import { ExpiryWatch, expiryWarning } from "./expiry.js";
import { type MemberCredentials, PEER_SERVER_NAME, type PeerIdentity, ToMember } from "./member_credentials.js";
import { ReplaceableServerCredentials } from "./server_credentials.js";
import { type CertificateInfo, materialOf, type NodeTlsFiles, type TlsMaterial } from "./tls_material.js";

/**
 * A node that starts looks so often at files that do not fit together, after such pauses, in
 * milliseconds, before it refuses them.
 */
const OPEN_LOOKS = 3;
const OPEN_AGAIN_MS = 250;

/** An event of a node's TLS, for an operator. */
export type TlsEvent =
  /** Files have changed, and new connections use them. */
  | { readonly kind: "reloaded"; readonly files: readonly string[] }
  /**
   * Files have changed, and cannot be used: the old certificates stay. Told once for each content.
   */
  | { readonly kind: "rejected"; readonly reason: string }
  /** A certificate ends soon, or has ended. */
  | { readonly kind: "expiring"; readonly text: string }
  /** A connection was refused. Told once a minute; `times` counts those since the last time. */
  | { readonly kind: "refused"; readonly address: string; readonly reason: string; readonly times: number };

export interface NodeTlsOptions {
  /** Name of the node, which its certificate for members must have. Default: any. */
  readonly node?: string | undefined;
  readonly onEvent?: ((event: TlsEvent) => void) | undefined;
}

/** The part of a TLS connection of a server that says who is at its other end. */
export interface CallerSocket {
  readonly authorized: boolean;
  readonly authorizationError?: Error | string;
  readonly remoteAddress?: string | undefined;
  getPeerX509Certificate(): X509Certificate | undefined;
}

/**
 * The certificates of a node, for its port and for its connections to other members. Looks for
 * changed files, and uses them for new connections: those that are open keep what they began with.
 */
export class NodeTls implements MemberCredentials {
  /** Credentials of the node's port. @internal */
  readonly serverCredentials: grpc.ServerCredentials;
  readonly #replaceable: ReplaceableServerCredentials;
  readonly #timer: NodeJS.Timeout;
  /** Other servers with these certificates. */
  readonly #followers = new Set<(context: SecureContextOptions) => void>();
  readonly #expiry = new ExpiryWatch();
  #material: TlsMaterial;
  /** Digest of the contents in use. */
  #used: string;
  /** Files that cannot be used, as they were at the last look. */
  #rejection: { readonly reason: string; readonly digest: string; readonly isTold: boolean } | undefined;
  #looking: Promise<void> = Promise.resolve();
  /** Looks that have not ended. */
  #underWay = 0;
  #isRevoked: (fingerprint: string) => boolean = () => false;
  #refusals = { untold: 0, toldMs: Number.NEGATIVE_INFINITY };
  /** Connections that were refused, for their certificates or the lack of one. @internal */
  refusedConnections = 0;

  private constructor(
    /** Paths of the files. */
    readonly files: NodeTlsFiles,
    private readonly options: NodeTlsOptions,
    contents: ReadonlyMap<string, string>,
  ) {
    this.#material = materialOf(files, contents, (node, file) => checkName(node, file, options.node));
    this.#used = digestOf(contents);
    this.#replaceable = new ReplaceableServerCredentials(this.#serverOptions(), this.#material.server);
    this.serverCredentials = this.#replaceable;
    this.#tellExpiry();
    this.#timer = setInterval(() => {
      // A file system that hangs must not gather looks.
      if (this.#underWay === 0) void this.look();
    }, limits.tlsReloadMs);
    this.#timer.unref();
  }

  /**
   * Reads the files.
   * @throws CairnError INVALID_ARGUMENT when one cannot be read or used
   * @internal
   */
  static async open(files: NodeTlsFiles, options: NodeTlsOptions = {}): Promise<NodeTls> {
    if ((files.peerCertificate === undefined) !== (files.peerKey === undefined)) {
      const text = "a certificate for members needs its key, and the key its certificate";
      throw new CairnError("INVALID_ARGUMENT", `${text}: give both (--tls-peer-cert and --tls-peer-key), or neither`);
    }
    let contents = await contentsOf(files);
    for (let looks = 1; ; looks++) {
      try {
        return new NodeTls(files, options, contents);
      } catch (error) {
        // They may be being replaced, one after the other.
        await pause(OPEN_AGAIN_MS);
        const before = digestOf(contents);
        contents = await contentsOf(files);
        if (digestOf(contents) !== before) looks = 0;
        else if (looks >= OPEN_LOOKS) throw error;
      }
    }
  }

  /** The node and the cluster that its certificate for members names; undefined without one. */
  get node(): NodeName | undefined {
    return this.#material.node;
  }

  /** All certificates in use, with their end. */
  get certificates(): readonly CertificateInfo[] {
    return this.#material.certificates;
  }

  /** Problems that need an operator, in words. */
  get warnings(): string[] {
    const ending = this.certificates
      .map((info) => expiryWarning(info, Date.now()))
      .filter((text) => text !== undefined);
    const rejection = this.#rejection;
    return rejection?.isTold === true ? [...ending, rejectionText(rejection.reason)] : ending;
  }

  /**
   * Calls `use` with what another server of the node needs to show its certificate to clients, now
   * and whenever it changes. Returns a function that ends this.
   * @internal
   */
  followServer(use: (context: SecureContextOptions) => void): () => void {
    this.#followers.add(use);
    use(this.#material.server);
    return () => void this.#followers.delete(use);
  }

  /** See {@link MemberCredentials.to}. */
  to(member: string | undefined): grpc.ChannelCredentials {
    return new ToMember(
      member,
      () => this.#peerIdentity(),
      (fingerprint) => this.#isRevoked(fingerprint),
    );
  }

  /** Has new connections to members refuse certificates that are revoked. @internal */
  refuse(isRevoked: (fingerprint: string) => boolean): void {
    this.#isRevoked = isRevoked;
  }

  /** Looks for changed files now, rather than at the next interval. Never rejects. */
  look(): Promise<void> {
    this.#underWay++;
    this.#looking = this.#looking.then(async () => {
      await this.#reload();
      this.#tellExpiry();
      this.#underWay--;
    });
    return this.#looking;
  }

  /**
   * Returns the caller at the other end of a connection; undefined when it gave no certificate.
   * @throws CairnError UNAUTHENTICATED when its certificate is not to be accepted
   * @internal
   */
  callerAt(socket: CallerSocket): CallerCertificate | undefined {
    const certificate = socket.getPeerX509Certificate();
    if (certificate === undefined) return undefined;
    const caller = socket.authorized ? this.#callerOf(certificate) : undefined;
    if (caller !== undefined) return caller;
    const reason = socket.authorized ? "no authority of this node has signed it" : `${socket.authorizationError}`;
    throw new CairnError("UNAUTHENTICATED", `the certificate of ${commonNameOf(certificate)} is refused: ${reason}`);
  }

  /** Reports a connection that was refused. @internal */
  refused(address: string, reason: string): void {
    const refusals = this.#refusals;
    this.refusedConnections++;
    refusals.untold++;
    if (performance.now() - refusals.toldMs < limits.tlsRefusalLogMs) return;
    this.options.onEvent?.({ kind: "refused", address, reason, times: refusals.untold });
    this.#refusals = { untold: 0, toldMs: performance.now() };
  }

  /** Stops looking for changed files. */
  close(): void {
    clearInterval(this.#timer);
  }

  #callerOf(certificate: X509Certificate): CallerCertificate | undefined {
    const { clientAuthorities, peerAuthorities } = this.#material;
    const chain = chainOf(certificate);
    const names = alternativeNames(certificate.subjectAltName);
    const node = nodeNamed(names);
    const isPeer = isSignedBy(certificate, peerAuthorities, chain);
    const isClient = isSignedBy(certificate, clientAuthorities, chain);
    if (!isPeer && !isClient) return undefined;
    const authority = isPeer && (node !== undefined || !isClient) ? "peer" : "client";
    const fingerprint = plainFingerprint(certificate.fingerprint256);
    return { authority, commonName: commonNameOf(certificate), names, fingerprint, node };
  }

  #peerIdentity(): PeerIdentity {
    const { peer, node } = this.#material;
    if (peer !== undefined && node !== undefined) return { context: peer, node };
    const text = "this node knows no authority of members, so it cannot tell who answers";
    throw new CairnError("FAILED_PRECONDITION", `${text}: start it with one (--tls-peer-ca)`);
  }

  #serverOptions(): SecureServerOptions {
    const { clientCa, peerCa } = this.files;
    return {
      requestCert: clientCa !== undefined || peerCa !== undefined,
      // Otherwise a caller may have none; callerAt judges those that have one.
      rejectUnauthorized: clientCa !== undefined,
      handshakeTimeout: limits.tlsHandshakeMs,
      SNICallback: (name, answer: (error: Error | null, context?: SecureContext) => void) =>
        answer(null, name === PEER_SERVER_NAME ? this.#material.peer : undefined),
    };
  }

  async #reload(): Promise<void> {
    let digest = "";
    try {
      const contents = await contentsOf(this.files);
      digest = digestOf(contents);
      if (digest === this.#used) {
        this.#rejection = undefined;
        return;
      }
      if (digest === this.#rejection?.digest && this.#rejection.isTold) return;
      const { node } = this.#material;
      this.#material = materialOf(this.files, contents, (named, file) => checkSame(node, named, file));
      this.#replaceable.replace(this.#material.server);
      for (const use of this.#followers) use(this.#material.server);
      this.#used = digest;
      this.#rejection = undefined;
      this.options.onEvent?.({ kind: "reloaded", files: [...contents.keys()] });
    } catch (error) {
      this.#reject(CairnError.from(error).text, digest);
    }
  }

  /**
   * Tells of files that are bad twice in the same way: the first time, they may be half written.
   */
  #reject(reason: string, digest: string): void {
    const before = this.#rejection;
    const isSame = before?.reason === reason && before.digest === digest;
    this.#rejection = { reason, digest, isTold: isSame };
    if (isSame && !before.isTold) this.options.onEvent?.({ kind: "rejected", reason: rejectionText(reason) });
  }

  #tellExpiry(): void {
    for (const text of this.#expiry.look(this.certificates, Date.now())) {
      this.options.onEvent?.({ kind: "expiring", text });
    }
  }
}

/** Reads all files, at once: each replaced file should be new in the same look. */
async function contentsOf(files: NodeTlsFiles): Promise<ReadonlyMap<string, string>> {
  const paths = [...new Set(Object.values(files).filter((path): path is string => path !== undefined))];
  return new Map(
    await Promise.all(
      paths.map(async (path): Promise<[string, string]> => {
        try {
          return [path, await readFile(path, "utf8")];
        } catch (cause) {
          throw new CairnError("INVALID_ARGUMENT", `${path} cannot be read: ${(cause as Error).message}`, { cause });
        }
      }),
    ),
  );
}

function digestOf(contents: ReadonlyMap<string, string>): string {
  return createHash("sha256")
    .update(JSON.stringify([...contents]))
    .digest("hex");
}

function checkName({ cluster, id }: NodeName, file: string, name: string | undefined): void {
  if (name === undefined || name === id) return;
  const text = `${file} is the certificate of node ${id} of cluster ${cluster}, and this node is ${name}`;
  throw new CairnError("INVALID_ARGUMENT", `${text}: give it a certificate of its own`);
}

function checkSame(before: NodeName | undefined, { cluster, id }: NodeName, file: string): void {
  if (before?.cluster === cluster && before.id === id) return;
  const text = `${file} is now the certificate of node ${id} of cluster ${cluster}`;
  const was = `and this node is ${before?.id} of cluster ${before?.cluster}`;
  throw new CairnError("INVALID_ARGUMENT", `${text}, ${was}: stop the node to change that`);
}

function rejectionText(reason: string): string {
  return `the TLS files have changed and cannot be used, so the old certificates stay: ${reason}`;
}
