import fc from "fast-check";
import { expect, test } from "vitest";
import { CommandOutcome } from "../../gen/cairn/v1/storage_pb.js";
import { limits } from "../../src/base/limits.js";
import { WriteWindow } from "../../src/client/session/write_window.js";
import { MemoryMachine } from "../../src/machine/kv/memory_machine.js";
import { entry, put, request, uncheckedBytes } from "../support/machines/machines.js";

test("the write window acknowledges up to the oldest write that is not done", () => {
  const window = new WriteWindow();
  for (const sequence of [3, 4, 7, 8]) window.begin(sequence, 1);
  expect(window.acknowledgedThrough).toBe(0);
  window.done(4);
  expect(window.acknowledgedThrough).toBe(0);
  window.done(3);
  expect(window.acknowledgedThrough).toBe(4);
  window.done(8);
  window.done(8);
  window.done(99);
  expect(window.acknowledgedThrough).toBe(4);
  window.done(7);
  expect(window.acknowledgedThrough).toBe(8);
});

test("the write window always accepts one write of any size, and frees the bytes of writes that are done", () => {
  const window = new WriteWindow();
  const huge = 2 * limits.clientWriteBytesInFlight;
  expect(window.hasRoom(huge)).toBe(true);
  window.begin(1, huge);
  expect(window.hasRoom(1)).toBe(false);
  window.begin(2, 10);
  window.done(1);
  expect(window.hasRoom(limits.clientWriteBytesInFlight - 10)).toBe(true);
  expect(window.hasRoom(limits.clientWriteBytesInFlight - 9)).toBe(false);
});

test("the write window begins small, doubles with the answers while calls wait, and halves when the cluster is busy", () => {
  const window = new WriteWindow();
  const sizeOf = () => {
    let size = 0;
    while (window.hasRoom(0)) window.begin(++size, 0);
    for (let sequence = 1; sequence <= size; sequence++) window.done(sequence);
    return size;
  };
  expect(sizeOf()).toBe(limits.clientWritesAtFirst);
  window.grow(100);
  expect(sizeOf()).toBe(limits.clientWritesAtFirst);
  window.remembered(limits.sessionAnswers);
  window.grow(100);
  expect(sizeOf()).toBe(limits.clientWritesAtFirst + 100);
  window.grow(10_000);
  expect(sizeOf()).toBe(limits.clientWritesInFlight);
  window.shrink();
  expect(sizeOf()).toBe(limits.clientWritesInFlight / 2);
  window.remembered(0);
  expect(sizeOf()).toBe(limits.clientWritesAtFirst);
});

test("the cluster remembers every write that may be resent, whatever the order of answers and retries", () => {
  const choice = fc.record({ pick: fc.nat(), retries: fc.boolean(), answered: fc.boolean() });
  fc.assert(
    fc.property(fc.array(choice, { minLength: 1_500, maxLength: 2_500 }), (choices) => {
      const [window, machine] = [new WriteWindow(), new MemoryMachine()];
      window.remembered(limits.sessionAnswers);
      window.grow(limits.sessionAnswers);
      /** Writes that are under way, with the index at which they were first applied. */
      const open = new Map<number, number | undefined>();
      let [sequence, index] = [0, 0];
      for (const { pick, retries, answered } of choices) {
        while (window.hasRoom(1)) {
          window.begin(++sequence, 1);
          open.set(sequence, undefined);
        }
        // Mostly an old one, as a log would have it; the rest shows that the order does not matter.
        const sent = [...open.keys()][pick % (retries ? 3 : open.size)]!;
        const command = request("c", sent, put("k", `${sent}`), window.acknowledgedThrough);
        const [applied] = machine.apply([entry(++index, uncheckedBytes(command))]);
        expect(applied!.result!.outcome).toBe(CommandOutcome.OK);
        expect(Number(applied!.result!.index)).toBe(open.get(sent) ?? index);
        open.set(sent, Number(applied!.result!.index));
        if (!answered) continue;
        open.delete(sent);
        window.done(sent);
      }
    }),
    { numRuns: 10 },
  );
});
