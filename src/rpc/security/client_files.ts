import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createSecureContext, type SecureContext } from "node:tls";
import { CairnError } from "../../base/errors.js";
import { certificatesIn } from "./authorities.js";
import type { ClientTls } from "./client_tls.js";

type FileUse = "ca" | "certificate" | "key";

const USES: readonly FileUse[] = ["ca", "certificate", "key"];

const TITLES: Readonly<Record<FileUse, string>> = {
  ca: "the authority's certificate",
  certificate: "the client's certificate",
  key: "the client's key",
};

type Texts = Readonly<Partial<Record<FileUse, string>>>;

/** Holds the files of a client's TLS settings as they were last usable. */
export class ClientFiles {
  readonly #paths: Texts;
  #texts: Texts;
  #context: SecureContext;
  /** Describes why the present files are not in use; undefined when they are. */
  #problem: string | undefined;

  /** @throws CairnError INVALID_ARGUMENT when the files cannot be used now */
  constructor(tls: ClientTls) {
    this.#paths = pathsIn(tls);
    this.#texts = textsOf(this.#paths, (path) => readFileSync(path, "utf8"));
    this.#context = contextOf(this.#paths, this.#texts);
  }

  /** Settings for the next connection. */
  get context(): SecureContext {
    return this.#context;
  }

  /** Takes the files as they are now, if they can be used. Never rejects. */
  async reload(): Promise<void> {
    try {
      const read = await Promise.all(USES.map((use) => this.#read(use)));
      const texts = textsOf(this.#paths, (_path, use) => read[USES.indexOf(use)]!());
      if (USES.some((use) => texts[use] !== this.#texts[use])) {
        this.#context = contextOf(this.#paths, texts);
        this.#texts = texts;
      }
      this.#problem = undefined;
    } catch (error) {
      this.#problem = CairnError.from(error).text;
    }
  }

  /** Adds to a failure's text that the present files are not in use, if so. */
  noted(text: string): string {
    return this.#problem === undefined ? text : `${text} (the files of before were used: ${this.#problem})`;
  }

  /** Returns a function that returns the text, or throws the error of reading it. */
  async #read(use: FileUse): Promise<() => string> {
    const path = this.#paths[use];
    if (path === undefined) return () => "";
    return readFile(path, "utf8").then(
      (text) => () => text,
      (error: unknown) => () => {
        throw error;
      },
    );
  }
}

function pathsIn(tls: ClientTls): Texts {
  const paths: Partial<Record<FileUse, string>> = {};
  for (const use of USES) {
    const path = tls[use];
    if (path === undefined) continue;
    if (typeof path !== "string" || path === "") {
      throw new CairnError("INVALID_ARGUMENT", `${TITLES[use]}: ${use} must be the path of a PEM file`);
    }
    paths[use] = path;
  }
  if ((paths.certificate === undefined) !== (paths.key === undefined)) {
    const [given, missing] =
      paths.key === undefined ? (["certificate", "key"] as const) : (["key", "certificate"] as const);
    throw new CairnError("INVALID_ARGUMENT", `${TITLES[given]} is given, but not ${TITLES[missing]}: give both`);
  }
  return paths;
}

function textsOf(paths: Texts, read: (path: string, use: FileUse) => string): Texts {
  const texts: Partial<Record<FileUse, string>> = {};
  for (const use of USES) {
    const path = paths[use];
    if (path === undefined) continue;
    try {
      texts[use] = read(path, use);
    } catch (error) {
      throw unusable(TITLES[use], path, "cannot be read", error);
    }
  }
  return texts;
}

function contextOf(paths: Texts, texts: Texts): SecureContext {
  // Node ignores an authority that it cannot read.
  for (const use of ["ca", "certificate"] as const) {
    if (paths[use] !== undefined) certificatesIn(`${TITLES[use]} ${paths[use]}`, texts[use] ?? "");
  }
  if (texts.certificate !== undefined) checkKey(paths, texts.certificate, texts.key ?? "");
  try {
    return createSecureContext({
      minVersion: "TLSv1.2",
      ...(texts.ca !== undefined && { ca: texts.ca }),
      ...(texts.certificate !== undefined && { cert: texts.certificate, key: texts.key }),
    });
  } catch (error) {
    const text = `the TLS files ${Object.values(paths).join(", ")} cannot be used: ${(error as Error).message}`;
    throw new CairnError("INVALID_ARGUMENT", text, { cause: error });
  }
}

function checkKey(paths: Texts, certificate: string, text: string): void {
  const path = paths.key ?? "";
  let key: KeyObject;
  try {
    key = createPrivateKey(text);
  } catch (error) {
    const isEncrypted = text.includes("ENCRYPTED");
    const problem = isEncrypted ? "is encrypted: store it without a passphrase" : "holds no private key in PEM";
    throw unusable(TITLES.key, path, problem, error);
  }
  if (new X509Certificate(certificate).checkPrivateKey(key)) return;
  throw unusable(TITLES.key, path, `is not the key of ${paths.certificate}`);
}

/** The texts of OpenSSL are for its developers; those of the file system are for users. */
function unusable(title: string, path: string, problem: string, cause?: unknown): CairnError {
  const reason = cause instanceof Error && "syscall" in cause ? `: ${cause.message}` : "";
  return new CairnError("INVALID_ARGUMENT", `${title} ${path} ${problem}${reason}`, { cause });
}
