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
