import { limits } from "./limits.js";

const ID = new RegExp(`^[A-Za-z0-9._-]{1,${limits.idCharacters}}$`);

/** Whether a text may name a node or a cluster. */
export function isId(text: string): boolean {
  return typeof text === "string" && ID.test(text);
}
