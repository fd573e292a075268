import "reflect-metadata";
import { randomBytes, webcrypto } from "node:crypto";
import { isIP } from "node:net";
import * as x509 from "@peculiar/x509";

// Makes certificates for tests.

x509.cryptoProvider.set(webcrypto as never);

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const DAY_MS = 24 * 3_600_000;

/** A certificate and its key, in PEM. */
export interface Issued {
  readonly certificate: string;
  readonly key: string;
}

export interface IssueOptions {
  readonly commonName: string;
  /** "cairn://c1/node/n1" */
  readonly uris?: readonly string[];
  /** Names and addresses beside localhost and 127.0.0.1. */
  readonly dns?: readonly string[];
  /** All names and addresses, in place of those. */
  readonly hosts?: readonly string[];
  /** When it begins and ends, in ms since 1970. Default: a month before now, and `days` (90) after. */
  readonly from?: number;
  readonly until?: number;
  readonly days?: number;
  /** May sign others. */
  readonly isAuthority?: boolean;
}

/** An authority that tests make their certificates with. */
export class TestAuthority {
  private constructor(
    private readonly keys: webcrypto.CryptoKeyPair,
    private readonly root: x509.X509Certificate,
  ) {}

  static async create(name: string): Promise<TestAuthority> {
    const keys = await keyPair();
    const root = await x509.X509CertificateGenerator.createSelfSigned({
      serialNumber: serialNumber(),
      name: `CN=${name}`,
      notBefore: new Date(Date.now() - DAY_MS),
      notAfter: new Date(Date.now() + 365 * DAY_MS),
      signingAlgorithm: ALGORITHM,
      keys,
      extensions: [
        new x509.BasicConstraintsExtension(true, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      ],
    });
    return new TestAuthority(keys, root);
  }

  /** The authority's own certificate, in PEM. */
  get pem(): string {
    return `${this.root.toString("pem")}\n`;
  }

  async issue(options: IssueOptions): Promise<Issued> {
    return (await this.#issue(options)).issued;
  }

  /** An authority that this one has signed. */
  async between(name: string): Promise<TestAuthority> {
    const { keys, certificate } = await this.#issue({ commonName: name, isAuthority: true });
    return new TestAuthority(keys, certificate);
  }

  /** What signs like an authority, and was not made one by this one. */
  async authorityWithout(name: string): Promise<TestAuthority> {
    const { keys, certificate } = await this.#issue({ commonName: name });
    return new TestAuthority(keys, certificate);
  }

  /** A node's certificate, which its clients know under localhost and 127.0.0.1. */
  node(cluster: string, id: string, days = 90): Promise<Issued> {
    return this.issue({ commonName: id, uris: [`cairn://${cluster}/node/${id}`], days });
  }

  async #issue({ commonName, uris = [], dns = [], hosts, days = 90, isAuthority = false, ...validity }: IssueOptions) {
    const now = Date.now();
    const { from = now - 30 * DAY_MS, until = now + days * DAY_MS } = validity;
    const keys = await keyPair();
    const names: x509.JsonGeneralNames = [
      ...uris.map((value) => ({ type: "url", value }) as const),
      ...(hosts ?? ["localhost", "127.0.0.1", ...dns]).map(
        (value) => ({ type: isIP(value) ? "ip" : "dns", value }) as const,
      ),
    ];
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: serialNumber(),
      subject: `CN=${commonName}`,
      issuer: this.root.subject,
      notBefore: new Date(from),
      notAfter: new Date(until),
      signingAlgorithm: ALGORITHM,
      publicKey: keys.publicKey,
      signingKey: this.keys.privateKey,
      extensions: [
        new x509.BasicConstraintsExtension(isAuthority, undefined, true),
        ...(isAuthority || names.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(names)]),
        ...(isAuthority
          ? []
          : [new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth])]),
      ],
    });
    const exported = await webcrypto.subtle.exportKey("pkcs8", keys.privateKey);
    const key = x509.PemConverter.encode(exported, "PRIVATE KEY");
    return { keys, certificate, issued: { certificate: `${certificate.toString("pem")}\n`, key: `${key}\n` } };
  }
}

function keyPair(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]) as Promise<webcrypto.CryptoKeyPair>;
}

/** A serial number must be positive, and is unique enough at 64 bits. */
function serialNumber(): string {
  return `01${randomBytes(8).toString("hex")}`;
}
