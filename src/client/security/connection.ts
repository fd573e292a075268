import { isLoopback } from "../../base/addresses.js";
import { checkFlag, checkObject } from "../../base/arguments.js";
import { CairnError } from "../../base/errors.js";
import type { ChannelSettings } from "../../rpc/channel.js";
import { checkToken, wouldShowToken } from "../../rpc/security/bearer_token.js";
import { type ClientTls, clientCredentials } from "../../rpc/security/client_tls.js";

// Turns the options of a client about TLS and tokens into settings of its channels.

export type { ClientTls } from "../../rpc/security/client_tls.js";

/** Tells how a client protects its connections, and how it shows who it is. */
export interface ConnectionOptions {
  /** Connects by TLS. Default: without encryption. */
  readonly tls?: ClientTls | undefined;
  /**
   * Token to send with each call, as `authorization: Bearer TOKEN`; or a function that returns it,
   * which is called for each call and must be quick. Without `tls`, it is sent to this machine
   * only, unless `insecure` is set.
   */
  readonly token?: string | (() => string) | undefined;
  /** Sends the token to other machines without encryption, too. Default false. */
  readonly insecure?: boolean | undefined;
}

/** Settings of the channels of a client. */
export type ProtectedSettings = Pick<ChannelSettings, "credentials" | "token" | "tokenUnencrypted">;

/**
 * Returns the settings of the channels for these options.
 * @throws CairnError INVALID_ARGUMENT for invalid options, or files that cannot be used;
 * LIMIT_EXCEEDED for a token that is too long; FAILED_PRECONDITION when the token would travel
 * unencrypted to one of the endpoints, on another machine
 */
export function protectedSettings(options: ConnectionOptions, endpoints: readonly string[]): ProtectedSettings {
  const { tls, token } = options;
  const insecure = checkFlag("insecure", options.insecure);
  const read = tokenReader(token);
  if (read !== undefined && tls === undefined && !insecure) {
    const open = endpoints.find((address) => !isLoopback(address));
    if (open !== undefined) throw wouldShowToken(open);
  }
  return {
    ...(tls !== undefined && { credentials: clientCredentials(checkObject("tls", tls)) }),
    ...(read !== undefined && { token: read, tokenUnencrypted: insecure }),
  };
}

/** Returns a function that returns the token; undefined without one. */
export function tokenReader(token: ConnectionOptions["token"]): (() => string) | undefined {
  if (token === undefined || typeof token === "function") return token;
  if (typeof token !== "string")
    throw new CairnError("INVALID_ARGUMENT", "token must be a text, or a function that returns one");
  checkToken(token);
  return () => token;
}
