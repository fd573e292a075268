/** Returns a key as Latin-1 text, which can be looked up, and sorts as the key's bytes do. */
export function keyName(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1");
}
