import type { Random } from "../../../support/random.js";
import { Finding, type Target } from "../../run/target.js";
import { commandDecoders } from "./commands.js";
import type { Decoder } from "./decoder.js";
import { peerDecoders } from "./peers.js";
import { storageDecoders } from "./storage.js";
import { textDecoders } from "./texts.js";

/** A single input that takes this many ms again and again is a bug. */
const SLOW_MS = 500;

/** Everything that decodes bytes from outside, called as plain functions. */
export function decoders(): Target {
  const all: readonly Decoder[] = [...storageDecoders, ...commandDecoders, ...peerDecoders, ...textDecoders];
  return {
    name: "decoders",
    round: 20_000,
    prepare: async () => {},
    run(random, trace) {
      const decoder = random.pick(all);
      const bytes = decoder.draw(random);
      trace(decoder.name, bytes);
      if (tookLong(() => runOnce(decoder, bytes, random))) {
        // A machine that stands still makes any case slow, but not the same one three times.
        const isSlow = [1, 2, 3].every(() => tookLong(() => runOnce(decoder, bytes, random)));
        if (isSlow) throw new Finding(`${decoder.name}: ${bytes.byteLength} bytes take more than ${SLOW_MS} ms`);
      }
      return 1;
    },
    check: async () => {},
    close: async () => {},
  };
}

function runOnce(decoder: Decoder, bytes: Uint8Array, random: Random): void {
  try {
    decoder.run(bytes, random);
  } catch (error) {
    if (error instanceof Finding) throw new Finding(`${decoder.name}: ${error.message}`);
    throw new Finding(`${decoder.name}: ${error instanceof Error ? error.stack : String(error)}`);
  }
}

function tookLong(work: () => void): boolean {
  const before = performance.now();
  work();
  return performance.now() - before > SLOW_MS;
}
