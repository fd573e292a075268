import { readFile } from "node:fs/promises";
import { inRepository } from "../../nodes/process.js";
import type { Facts } from "./facts.js";

/** Encoded messages of real traffic, by service and method. */
export type Corpus = ReadonlyMap<string, readonly Uint8Array[]>;

/** What `npm run fuzz -- --record` has written. */
export interface RecordedTraffic {
  /** Identity of the cluster that was recorded, to be replaced by that of the one that is fuzzed. */
  readonly clusterId: string;
  readonly incarnations: Readonly<Record<string, string>>;
  /** Messages in base64. */
  readonly messages: Readonly<Record<string, readonly string[]>>;
}

export const CORPUS_FILE = "test/fuzz/corpus.json";

/** Reads the recorded messages, as members of this cluster would have sent them. */
export async function loadCorpus(facts: Facts): Promise<Corpus> {
  const recorded = JSON.parse(await readFile(inRepository(CORPUS_FILE), "utf8")) as RecordedTraffic;
  const replacements: [Buffer, Buffer][] = [[Buffer.from(recorded.clusterId), Buffer.from(facts.clusterId)]];
  for (const [id, incarnation] of Object.entries(recorded.incarnations)) {
    const own = facts.incarnations.get(id);
    if (own !== undefined) replacements.push([Buffer.from(incarnation, "hex"), Buffer.from(own)]);
  }
  return new Map(
    Object.entries(recorded.messages).map(([method, messages]) => [
      method,
      messages.map((text) => replaced(Buffer.from(text, "base64"), replacements)),
    ]),
  );
}

/** Replaces byte strings by others of the same length. */
function replaced(bytes: Buffer, replacements: readonly (readonly [from: Buffer, to: Buffer])[]): Buffer {
  for (const [from, to] of replacements) {
    if (from.byteLength !== to.byteLength || from.byteLength === 0) continue;
    for (let at = bytes.indexOf(from); at >= 0; at = bytes.indexOf(from, at + to.byteLength)) to.copy(bytes, at);
  }
  return bytes;
}
