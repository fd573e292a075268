import type * as grpc from "@grpc/grpc-js";
import { isLoopback } from "../../base/addresses.js";
import { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import { overLimit } from "../../base/telemetry/refusals.js";

/** Characters of a token: more than those of RFC 6750, but no space, and nothing to escape. */
const TOKEN = /^[\x21-\x7e]+$/;

/** Adds a token to the calls of a channel. No error ever shows it. */
export class BearerToken {
  /** The newest token, and the header that carries it. */
  #token: string | undefined;
  #header = "";

  constructor(
    private readonly source: () => string,
    /** host:port */
    private readonly address: string,
    /** The connection is encrypted, or the user wants the token sent anyway. */
    private readonly maySend: boolean,
  ) {}

  /**
   * Returns a call's metadata with the token.
   * @throws CairnError FAILED_PRECONDITION when it would travel unencrypted to another machine, or
   * there is none; INVALID_ARGUMENT for one that cannot be a token
   */
  addTo(metadata: grpc.Metadata): grpc.Metadata {
    if (!this.maySend && !isLoopback(this.address)) throw wouldShowToken(this.address);
    const token = this.#read();
    if (token !== this.#token) {
      this.#header = `Bearer ${checkToken(token)}`;
      this.#token = token;
    }
    const sent = metadata.clone();
    sent.set("authorization", this.#header);
    return sent;
  }

  #read(): string {
    try {
      return this.source();
    } catch (error) {
      // The cause is left out: nobody knows what its text shows.
      if (error instanceof CairnError) throw error;
      throw new CairnError("FAILED_PRECONDITION", "the function that returns the token has thrown an error");
    }
  }
}

/** Returns the error of a call that would carry the token unencrypted to another machine. */
export function wouldShowToken(address: string): CairnError {
  const text = `the token is not sent to ${address}, because the connection would not be encrypted`;
  return new CairnError("FAILED_PRECONDITION", `${text}: use TLS, or allow it on purpose with insecure (--insecure)`);
}

/** Checks a token without showing it. @throws CairnError INVALID_ARGUMENT, LIMIT_EXCEEDED */
export function checkToken(token: string): string {
  if (typeof token !== "string" || !TOKEN.test(token)) {
    throw new CairnError("INVALID_ARGUMENT", "the token must be printable ASCII without spaces, and not empty");
  }
  if (token.length <= limits.tokenCharacters) return token;
  const text = `the token has ${token.length} characters, above the limit tokenCharacters (${limits.tokenCharacters})`;
  throw overLimit("LIMIT_EXCEEDED", "tokenCharacters", text);
}
