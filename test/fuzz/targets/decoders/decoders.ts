import type { Random } from "../../../support/random.js";
import { Finding, type Target } from "../../run/target.js";
import { commandDecoders } from "./commands.js";
import type { Decoder } from "./decoder.js";
import { peerDecoders } from "./peers.js";
import { storageDecoders } from "./storage.js";
import { textDecoders } from "./texts.js";

/** A single input that takes this many ms of CPU, and did so by the clock before, is a bug. */
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
      const before = performance.now();
      runOnce(decoder, bytes, random);
      // A busy machine makes any case slow by the clock: CPU time, which is dear to ask for, decides.
      if (performance.now() - before > SLOW_MS && cpuMs(() => runOnce(decoder, bytes, random)) > SLOW_MS) {
        throw new Finding(`${decoder.name}: ${bytes.byteLength} bytes take more than ${SLOW_MS} ms of CPU`);
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

function cpuMs(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000;
}
