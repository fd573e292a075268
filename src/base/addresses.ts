import { limits } from "./limits.js";

/**
 * Whether a text is host:port, with a port that can be connected to, and not longer than
 * limits.addressCharacters.
 */
export function isAddress(text: string): boolean {
  if (text.length > limits.addressCharacters) return false;
  const [, port = "0"] = /^(?:[^\s:/]+|\[[^\s/]+\]):(\d{1,5})$/.exec(text) ?? [];
  return Number(port) >= 1 && Number(port) <= 65_535;
}
