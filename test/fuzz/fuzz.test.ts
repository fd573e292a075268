import { describe, expect, test } from "vitest";
import type { Random } from "../support/random.js";
import { runFuzz } from "./launch.mjs";
import { runLane } from "./run/lane.js";
import { expectThat, type Target } from "./run/target.js";
import { expectRefusal } from "./targets/decoders/decoder.js";
import { decoders } from "./targets/decoders/decoders.js";
import { files } from "./targets/files/files.js";

const SEED = 20_261_129;

/** A target that finds something in the one case in which a draw is above a bound. */
function picky(drawn: number[]): Target {
  return {
    name: "picky",
    round: 10,
    prepare: async () => {},
    run(random: Random, trace) {
      const number = random.whole(1, 100);
      drawn.push(number);
      trace(`drew ${number}`);
      expectThat(number <= 98, () => `${number} is too much`);
      return 1;
    },
    check: async () => {},
    close: async () => {},
  };
}

describe("the fuzz", () => {
  test("finds nothing in a few hundred cases of decoders and of damaged directories", async () => {
    const decoded = await runLane([decoders()], { seed: SEED, ms: 0, cases: [0, 1_500] });
    expect(decoded.found).toEqual([]);
    expect(decoded.messages).toEqual({ decoders: 1_501 });
    const started = await runLane([files({ withProcesses: false })], { seed: SEED, ms: 0, cases: [0, 100] });
    expect(started.found).toEqual([]);
    expect(started.messages).toEqual({ files: 101 });
  });

  test("finds nothing in a few dozen calls and connections to a cluster", { timeout: 300_000 }, async () => {
    for (const target of ["services", "http2"]) {
      const { found, messages } = await runFuzz({ targets: [target], seed: SEED, ms: 0, cases: [0, 25] });
      expect(found).toEqual([]);
      expect(messages[target]).toBeGreaterThan(25);
    }
  });

  test("names the case that finds something, and what it did; the case alone finds the same", async () => {
    const drawn: number[] = [];
    const { found } = await runLane([picky(drawn)], { seed: SEED, ms: 60_000 });
    const [finding] = found;
    expect(finding).toMatchObject({ target: "picky", first: drawn.length - 1, last: drawn.length - 1 });
    expect(finding!.trace).toEqual([`drew ${drawn.at(-1)}`]);
    const again = await runLane([picky([])], { seed: SEED, ms: 0, cases: [finding!.first, finding!.last] });
    expect(again.found).toEqual(found);
  });

  test("takes an error that is no refusal for a bug", () => {
    expect(() => expectRefusal(new TypeError("x is not a function"))).toThrow(/threw no CairnError/);
  });
});
