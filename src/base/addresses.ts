import { CairnError } from "./errors.js";
import { limits } from "./limits.js";

/**
 * Whether a text is host:port, with a port that a client can connect to, and at most
 * limits.addressCharacters long.
 */
export function isAddress(text: string): boolean {
  if (text.length > limits.addressCharacters) return false;
  const [, port = "0"] = /^(?:[^\s:/]+|\[[^\s/]+\]):(\d{1,5})$/.exec(text) ?? [];
  return Number(port) >= 1 && Number(port) <= 65_535;
}

/** Whether only this machine reaches a listener on host:port, by the host as it is written. */
export function isLoopback(listen: string): boolean {
  return /^(localhost|127(\.\d{1,3}){3}|\[::1\]|::1):\d+$/i.test(listen);
}

/**
 * Checks that a listener without TLS is out of the network's reach, unless its operator says so.
 * @throws CairnError INVALID_ARGUMENT
 */
export function checkExposure(listen: string, allows: { readonly tls: boolean; readonly insecure: boolean }): void {
  if (allows.tls || allows.insecure || isLoopback(listen)) return;
  throw new CairnError("INVALID_ARGUMENT", exposureProblem(listen));
}

/** Says why a listener without TLS must not be where the network reaches it, and what to do. */
export function exposureProblem(listen: string): string {
  return (
    `whoever reaches ${listen} could read and change everything, because there is no TLS: give a certificate and its key ` +
    "(--tls-cert and --tls-key), listen on a loopback address, or say that it is meant (--insecure)"
  );
}
