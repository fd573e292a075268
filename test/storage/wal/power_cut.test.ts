import { describe, expect, test } from "vitest";
import {
  type Entry,
  type HardState,
  INITIAL_HARD_STATE,
  LOG_START,
  type LogPosition,
} from "../../../src/raft/types.js";
import { WriteAheadLog } from "../../../src/storage/wal/wal.js";
import { FaultyFileSystem } from "../../support/disk/faulty_fs.js";
import { seededRandom } from "../../support/random.js";
import { DIRECTORY, entriesFrom, entry, openLog, readAll } from "./support.js";

const SIZES = { segmentBytes: 1500, fillBytes: 512 };

/** What a log shows. */
interface State {
  readonly boundary: LogPosition;
  readonly entries: readonly Entry[];
  readonly hardState: HardState;
}

/** One call on the log, and what it makes of a state. */
interface Step {
  readonly run: (log: WriteAheadLog) => Promise<void>;
  readonly effect: (state: State) => State;
}

function append(entries: Entry[], term = entries[0]!.term): Step {
  const hardState = { term, vote: `node-${term}`, commit: entries[0]!.index - 1 };
  return {
    run: (log) => log.append({ entries, hardState, sync: true }),
    effect: (state) => ({
      ...state,
      hardState,
      entries: [...state.entries.filter((one) => one.index < entries[0]!.index), ...entries],
    }),
  };
}

function trim(index: number): Step {
  return {
    run: (log) => log.trim(index),
    effect: (state) => ({
      ...state,
      boundary: { index, term: state.entries.find((one) => one.index === index)!.term },
      entries: state.entries.filter((one) => one.index > index),
    }),
  };
}

function reset(position: LogPosition): Step {
  return {
    run: (log) => log.reset(position),
    effect: (state) => ({ ...state, boundary: position, entries: [] }),
  };
}

/** Appends, conflicts, rolls, trims that remove segments and trims that do not, and resets, by a log of very small segments. */
const scenario: Step[] = [
  append(entriesFrom(1, 3)),
  ...entriesFrom(4, 30).map((one) => append([one])),
  append(entriesFrom(20, 24, 2)),
  trim(5),
  trim(19),
  append(entriesFrom(25, 40, 2)),
  append(entriesFrom(22, 23, 3)),
  trim(22),
  ...entriesFrom(24, 60, 4).map((one) => append([one])),
  trim(60),
  append(entriesFrom(61, 75, 4)),
  reset({ index: 70, term: 5 }),
  append(entriesFrom(71, 90, 5)),
  append([entry(80, 6)]),
  reset({ index: 200, term: 7 }),
  append(entriesFrom(201, 203, 7)),
];

/** Runs the scenario until the power goes. Returns what was awaited, and what was under way. */
async function runUntilCut(fs: FaultyFileSystem): Promise<{ done: State; started: State } | undefined> {
  let done: State = { boundary: LOG_START, entries: [], hardState: INITIAL_HARD_STATE };
  let log: WriteAheadLog;
  try {
    log = await WriteAheadLog.create({ fs, directory: DIRECTORY, ...SIZES }, LOG_START, INITIAL_HARD_STATE);
  } catch (error) {
    if (!fs.powerIsOff) throw error;
    return undefined;
  }
  for (const step of scenario) {
    const started = step.effect(done);
    try {
      await step.run(log);
    } catch (error) {
      if (!fs.powerIsOff) throw error;
      return { done, started };
    }
    done = started;
  }
  return { done, started: done };
}

async function shown(log: WriteAheadLog): Promise<State> {
  return { boundary: log.boundary, entries: await readAll(log), hardState: log.hardState };
}

/**
 * Whether a log may show `found` when `state` had been reached, or was being reached: all of its entries, or the first of them where
 * `started` adds some. The boundary may lag behind when a trim was not needed yet.
 */
function isReached(found: State, done: State, started: State): boolean {
  const { boundary } = found;
  const term = started.entries.at(-1)?.term ?? started.boundary.term;
  if (found.hardState.term !== done.hardState.term && found.hardState.term !== started.hardState.term) return false;
  if (found.hardState.term < (found.entries.at(-1)?.term ?? 0) || (found.entries.at(-1)?.term ?? 0) > term)
    return false;
  const fits = (state: State, whole: boolean): boolean => {
    if (boundary.index > state.boundary.index) return false;
    const above = found.entries.filter((one) => one.index > state.boundary.index);
    if (whole ? above.length !== state.entries.length : above.length > state.entries.length) return false;
    return above.every((one, at) => same(one, state.entries[at]!));
  };
  const isPart = (found.entries.at(-1)?.index ?? boundary.index) >= commonLength(done, started);
  return fits(done, true) || (fits(started, false) && isPart);
}

/** Last index of the entries that both states have. */
function commonLength(done: State, started: State): number {
  let index = started.boundary.index;
  for (const one of started.entries) {
    const other = done.entries.find((candidate) => candidate.index === one.index);
    if (other === undefined || !same(one, other)) break;
    index = one.index;
  }
  return index;
}

function same(one: Entry, other: Entry): boolean {
  return one.index === other.index && one.term === other.term && Buffer.compare(one.data, other.data) === 0;
}

describe("a power cut at any file-system call of the log", () => {
  test("leaves all awaited appends in order, and nothing that contradicts them", async () => {
    const counting = new FaultyFileSystem(["/data"]);
    await runUntilCut(counting);
    const calls = counting.changes;
    expect(calls).toBeGreaterThan(200);
    const random = seededRandom(3);
    for (let cut = 0; cut < calls; cut++) {
      const fs = new FaultyFileSystem(["/data"]);
      fs.cutPowerAfter(cut);
      const reached = await runUntilCut(fs);
      expect(fs.powerIsOff).toBe(true);
      for (const keep of ["none", "all", "random", "random", "random"] as const) {
        const restarted = fs.crash({ keep, random });
        if (reached === undefined) {
          await expectNoLogOrEmpty(restarted);
          continue;
        }
        const { log } = await openLog(restarted, SIZES);
        const found = await shown(log);
        expect(isReached(found, reached.done, reached.started), describeCut(cut, keep, found, reached)).toBe(true);
        // The log goes on, and a second power failure changes nothing.
        const next = entry(log.last.index + 1, log.last.term + 1);
        await log.append({ entries: [next], sync: true });
        const { log: again } = await openLog(restarted.crash({ keep: "none" }), SIZES);
        expect(again.last).toEqual({ index: next.index, term: next.term });
      }
    }
  });

  test("leaves the same when it comes while the log is opened after a first one", async () => {
    const random = seededRandom(5);
    for (let run = 0; run < 40; run++) {
      const fs = new FaultyFileSystem(["/data"]);
      fs.cutPowerAfter(20 + Math.floor(random() * 250));
      const reached = await runUntilCut(fs);
      const first = fs.crash({ keep: "random", random });
      for (let cut = 0; ; cut++) {
        const attempt = first.crash({ keep: "all" });
        attempt.cutPowerAfter(cut);
        const isOpen = await openLog(attempt, SIZES).then(
          () => true,
          () => false,
        );
        const { log } = await openLog(attempt.crash({ keep: "random", random }), SIZES);
        expect(isReached(await shown(log), reached!.done, reached!.started)).toBe(true);
        if (isOpen) break;
      }
    }
  });
});

async function expectNoLogOrEmpty(fs: FaultyFileSystem): Promise<void> {
  const opened = await openLog(fs).catch((error) => {
    expect(error).toMatchObject({ code: "DATA_DIRECTORY" });
    return undefined;
  });
  if (opened !== undefined) expect(opened.log.last).toEqual(LOG_START);
}

function describeCut(cut: number, keep: string, found: State, reached: { done: State; started: State }): string {
  const brief = (state: State): string =>
    `${JSON.stringify(state.boundary)} ${state.entries.map((one) => `${one.index}/${one.term}`).join(" ")} ${JSON.stringify(state.hardState)}`;
  return `cut ${cut}, keep ${keep}\nfound ${brief(found)}\ndone ${brief(reached.done)}\nstarted ${brief(reached.started)}`;
}
