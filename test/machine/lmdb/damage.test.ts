import { cp, mkdir, mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Database, open as openLmdbItself } from "lmdb";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { CairnError } from "../../../src/base/errors.js";
import { limits } from "../../../src/base/limits.js";
import type { KeyValueMachine } from "../../../src/machine/kv/key_value_machine.js";
import { MemoryMachine } from "../../../src/machine/kv/memory_machine.js";
import { LmdbMachine } from "../../../src/machine/lmdb_machine.js";
import type { Entry } from "../../../src/raft/types.js";
import { nodeFileSystem } from "../../../src/system/fs.js";
import { temporaryDirectory } from "../../support/disk/temporary_directory.js";
import {
  applyOperation,
  bytes,
  cas,
  contents,
  del,
  entry,
  openLmdb,
  payloadOf,
  put,
  request,
  text,
  uncheckedBytes,
} from "../../support/machines/machines.js";
import { startProcess } from "../../support/processes/processes.js";
import { runs } from "../../support/run/tries_all.js";

const PAGE_BYTES = 4096;
const DATA = "view-1/data.mdb";

/** A log whose state has pages of all kinds: leaves and branches of four tables, large values, and free pages. */
const LOG: readonly Entry[] = Array.from({ length: 1200 }, (_, at) => {
  const value = at % 60 === 0 ? "large ".repeat(1500) : `value ${at} `.repeat(10);
  const key = `key ${(at * 7919) % 400}`;
  const sequence = Math.floor(at / 5) + 1;
  const command = request(
    `client ${at % 5}`,
    sequence,
    at % 13 === 0 ? del(key) : put(key, value),
    Math.max(0, sequence - 40),
  );
  return entry(at + 1, uncheckedBytes(command));
});
const MORE: readonly Entry[] = Array.from({ length: 60 }, (_, at) => {
  const command = request(
    `client ${at % 5}`,
    1000 + at,
    at % 3 === 0 ? cas(`key ${at}`, 0, "new", true) : put(`key ${at}`, "more"),
  );
  return entry(LOG.length + 1 + at, uncheckedBytes(command));
});

function applyAll(machine: KeyValueMachine, entries: readonly Entry[]): void {
  const left = entries.filter(({ index }) => index > machine.appliedIndex);
  for (let at = 0; at < left.length; at += 60) machine.apply(left.slice(at, at + 60));
}

/** All that a machine answers: its keys in a range, each by itself, and what follows each in a range that starts there. */
function answersOf(machine: KeyValueMachine) {
  const keys = contents(machine);
  const versions = NAMES.map((name) => machine.get(bytes(name))?.version);
  const next = NAMES.map((name) => {
    const range = machine.range({ after: bytes(name), limit: 1 });
    return text(range.next().value?.key);
  });
  return { counts: [machine.keyCount, machine.sessionCount], keys, versions, next };
}

/** The right answers after these entries, by a machine in memory. */
async function answersAt(entries: readonly Entry[]) {
  const known = references.get(entries.length);
  if (known !== undefined) return known;
  const machine = new MemoryMachine();
  applyAll(machine, entries);
  const answered = { answers: answersOf(machine), payload: await payloadOf(machine) };
  references.set(entries.length, answered);
  return answered;
}

const references = new Map<number, { answers: ReturnType<typeof answersOf>; payload: Buffer }>();
const NAMES = Array.from({ length: 400 }, (_, n) => `key ${n}`);

function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 4) % below;
  };
}

test("a process that ends at any time leaves a file that is proven, whatever was overwritten, removed or kept (T7)", async () => {
  for (const seed of [1, 2, 3]) {
    const below = numbers(seed);
    const directory = await temporaryDirectory();
    // Around the sizes at which LMDB gives a row one page of its own, or several; it keeps the pages when the row shrinks.
    const sizes = [0, 1, 100, 1000, 2000, 2040, 4000, 4080, 8100, 9000, 20_000];
    const log: Entry[] = [];
    for (let start = 0; start < 8; start++) {
      const machine = await openLmdb({ directory });
      expect([machine.rebuildReason, machine.appliedIndex], `seed ${seed}, start ${start}`).toEqual([
        start === 0 ? "there is no state yet" : undefined,
        log.length,
      ]);
      for (let batch = 0; batch < 6; batch++) {
        const from = log.length;
        for (let at = 0; at < 1 + below(12); at++) {
          const index = log.length + 1;
          const key = `key ${below(30)}`;
          const operation = below(5) === 0 ? del(key) : put(key, "v".repeat(sizes[below(sizes.length)]! + below(60)));
          const client = `client ${below(4)}`;
          log.push(entry(index, uncheckedBytes(request(client, index, operation, Math.max(0, index - 30)))));
        }
        machine.apply(log.slice(from));
      }
      // As if the process had been killed, but late enough for the opening to count no more.
      if (start % limits.stateOpenings === 0) await machine.crash();
      else await machine.close();
    }
  }
});

describe("a data file under a mark of trust (T7)", () => {
  let pristine: string;
  let data: Buffer;

  beforeAll(async () => {
    pristine = await mkdtemp(join(tmpdir(), "cairn-machine-"));
    const machine = await LmdbMachine.open({ directory: pristine });
    applyAll(machine, LOG);
    await machine.close();
    data = await readFile(`${pristine}/${DATA}`);
    return () => rm(pristine, { recursive: true, force: true });
  });

  /** The state with these bytes as its data file. */
  async function stateOf(bytes: Buffer): Promise<string> {
    const directory = await temporaryDirectory();
    await cp(pristine, directory, { recursive: true });
    await writeFile(`${directory}/${DATA}`, bytes);
    return directory;
  }

  // Keeps the worker thread, which would be started anew for each state.
  beforeEach(async () => void (await openLmdb({ directory: await temporaryDirectory() })));

  /** Opens it: it is thrown away, or all that it says is true, and stays so when it is used. Returns whether it was thrown away. */
  async function expectTruth(damaged: Buffer, what: string): Promise<boolean> {
    const directory = await stateOf(damaged);
    const machine = await openLmdb({ directory });
    try {
      if (machine.rebuilt) {
        expect(machine, what).toMatchObject({ appliedIndex: 0, keyCount: 0, sessionCount: 0 });
        return true;
      }
      await expectSame(machine, LOG.slice(0, machine.appliedIndex), what);
      applyAll(machine, [...LOG, ...MORE]);
      await expectSame(machine, [...LOG, ...MORE], what);
      return false;
    } finally {
      await machine.crash();
    }
  }

  async function expectSame(machine: LmdbMachine, entries: readonly Entry[], what: string): Promise<void> {
    const expected = await answersAt(entries);
    expect(await answersOf(machine), what).toEqual(expected.answers);
    expect((await payloadOf(machine)).equals(expected.payload), what).toBe(true);
  }

  test("is used when it is not damaged", async () => {
    expect(await expectTruth(data, "undamaged")).toBe(false);
  });

  test("with a flipped bit is never served as truth, and gets into no snapshot", async () => {
    const random = numbers(1);
    let refused = 0;
    const flips = runs(80, 200);
    for (let flip = 0; flip < flips; flip++) {
      // Every fourth in the meta pages, on which all depends.
      const bit = flip % 4 === 0 ? random(2) * PAGE_BYTES * 8 + random(170 * 8) : random(data.byteLength * 8);
      if (await expectTruth(withBit(data, bit), `bit ${bit % 8} of byte ${bit >>> 3}`)) refused++;
    }
    expect(refused).toBeGreaterThan(flips / 5);
    expect(refused).toBeLessThan(flips * 0.95);
  }, 240_000);

  test("with a page that is zeroed, or another one's copy, is never served as truth", async () => {
    let refused = 0;
    for (let page = 0; page < data.byteLength / PAGE_BYTES; page += 5) {
      const zeroed = Buffer.from(data);
      zeroed.fill(0, page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
      if (await expectTruth(zeroed, `page ${page} is zeroed`)) refused++;
      const copied = Buffer.from(data);
      const other = ((page + 7) * PAGE_BYTES) % data.byteLength;
      data.copy(copied, page * PAGE_BYTES, other, other + PAGE_BYTES);
      if (await expectTruth(copied, `page ${page} has another number or kind`)) refused++;
    }
    expect(refused).toBeGreaterThan(10);
  }, 240_000);

  test("that was found damaged is not opened again, and the reason is given", async () => {
    const damaged = Buffer.from(data);
    damaged.fill(0, 2 * PAGE_BYTES);
    const machine = await openLmdb({ directory: await stateOf(damaged) });
    expect(machine.rebuildReason).toMatch(/the state on disk is damaged: page \d+ has another number or kind/);
  });
});

describe("damage of the state while it is open (T7)", () => {
  const VALUE = "a value that stands out";

  async function openFilled() {
    const directory = await temporaryDirectory();
    const machine = await openLmdb({ directory });
    applyOperation(machine, put("a", "1"));
    applyOperation(machine, put("b", VALUE));
    applyOperation(machine, put("c", "3"));
    machine.apply([entry(4, uncheckedBytes(request("client", 1, put("d", "4"))))]);
    return { directory, machine };
  }

  /** Changes a bit of the last place where the data file has the value; LMDB sees it at once. */
  async function flipInValue(directory: string): Promise<void> {
    const file = await open(`${directory}/${DATA}`, "r+");
    const all = await file.readFile();
    for (let at = all.indexOf(VALUE); at >= 0; at = all.indexOf(VALUE, at + 1)) {
      await file.write(Buffer.from([all[at]! ^ 4]), 0, 1, at);
    }
    await file.close();
  }

  /** Changes rows through another handle, which knows nothing of checksums. */
  async function tamper(directory: string, table: string, change: (rows: Rows) => void): Promise<void> {
    const path = `${directory}/view-1`;
    const environment = openLmdbItself<Buffer, Uint8Array>({ path, noSubdir: false, noSync: true });
    const rows = environment.openDB<Buffer, Uint8Array>(table, { encoding: "binary", keyEncoding: "binary" });
    environment.transactionSync(() => change(rows));
    await environment.close();
  }

  /** The damage is known, nothing is answered any more, and the next opening begins anew. */
  async function expectRemembered(machine: LmdbMachine, directory: string): Promise<void> {
    expect(machine.damaged.reason).toMatchObject({ code: "CORRUPT" });
    for (const use of [
      () => machine.get(bytes("a")),
      () => machine.range(),
      () => applyOperation(machine, put("e", "5")),
    ]) {
      expect(use).toThrow(expect.objectContaining({ code: "CORRUPT" }));
    }
    await expect(machine.capture()).rejects.toMatchObject({ code: "CORRUPT" });
    await machine.crash();
    const again = await openLmdb({ directory });
    expect(again).toMatchObject({ rebuilt: true, appliedIndex: 0, keyCount: 0 });
    expect(again.rebuildReason).toMatch(/found damaged before: the state on disk is damaged/);
    applyOperation(again, put("new", "1"));
    await again.close();
    expect(await openLmdb({ directory })).toMatchObject({ rebuilt: false, appliedIndex: 1 });
  }

  test.each([
    { how: "get", use: async (machine: LmdbMachine) => void machine.get(bytes("b")) },
    { how: "a range", use: async (machine: LmdbMachine) => void [...machine.range()] },
    {
      how: "a compare-and-set",
      use: async (machine: LmdbMachine) => void applyOperation(machine, cas("b", VALUE, "x")),
    },
    { how: "a put", use: async (machine: LmdbMachine) => void applyOperation(machine, put("b", "x")) },
    { how: "a delete", use: async (machine: LmdbMachine) => void applyOperation(machine, del("b")) },
    { how: "a snapshot", use: async (machine: LmdbMachine) => void (await payloadOf(machine)) },
  ])("is noticed by $how", async ({ use }) => {
    const { directory, machine } = await openFilled();
    await flipInValue(directory);
    expect(text(machine.get(bytes("a"))?.value)).toBe("1");
    await expect(use(machine)).rejects.toMatchObject({ code: "CORRUPT" });
    await expectRemembered(machine, directory);
  });

  test("is noticed when a good row stands under another key", async () => {
    const { directory, machine } = await openFilled();
    await tamper(directory, "keys", (rows) => rows.putSync(bytes("c"), Buffer.from(rows.get(bytes("a"))!)));
    expect(() => machine.get(bytes("c"))).toThrow(expect.objectContaining({ code: "CORRUPT" }));
    await expectRemembered(machine, directory);
  });

  test.each([
    { what: "key", table: "keys", change: (rows: Rows) => rows.removeSync(bytes("c")) },
    { what: "session", table: "sessions", change: (rows: Rows) => rows.removeSync(bytes("client")) },
    { what: "answer", table: "answers", change: (rows: Rows) => rows.clearSync() },
  ])("is noticed before a snapshot is complete when a $what is gone", async ({ table, change }) => {
    const { directory, machine } = await openFilled();
    await tamper(directory, table, change);
    await expect(payloadOf(machine)).rejects.toMatchObject({ code: "CORRUPT" });
    await expectRemembered(machine, directory);
  });

  test("is noticed when an older row has come back", async () => {
    const { directory, machine } = await openFilled();
    let older: Buffer | undefined;
    await tamper(directory, "keys", (rows) => {
      older = Buffer.from(rows.get(bytes("c"))!);
    });
    applyOperation(machine, put("c", "newer"));
    await tamper(directory, "keys", (rows) => rows.putSync(bytes("c"), older!));
    await expect(payloadOf(machine)).rejects.toMatchObject({ code: "CORRUPT" });
    await expectRemembered(machine, directory);
  });

  test("is recorded even without room on the disk", async () => {
    const { directory, machine } = await openFilled();
    await machine.close();
    let isFull = false;
    const fs: typeof nodeFileSystem = {
      ...nodeFileSystem,
      async open(path, mode) {
        if (isFull && mode === "create") throw new CairnError("DISK_FULL", "no space left");
        return nodeFileSystem.open(path, mode);
      },
    };
    const full = await openLmdb({ directory, fs });
    await flipInValue(directory);
    isFull = true;
    expect(() => full.get(bytes("b"))).toThrow(expect.objectContaining({ code: "CORRUPT" }));
    await full.crash();
    expect(await openLmdb({ directory })).toMatchObject({ rebuilt: true, appliedIndex: 0 });
  });
});

describe("openings of the state that end soon (T7)", () => {
  async function reopened(directory: string, options: { openingMs?: number } = {}) {
    return openLmdb({ directory, ...options });
  }

  async function openAndCrash(directory: string, times: number): Promise<void> {
    for (let opening = 0; opening < times; opening++) {
      const machine = await reopened(directory);
      expect(machine.rebuilt).toBe(opening === 0 && machine.appliedIndex === 0);
      if (machine.appliedIndex === 0) applyOperation(machine, put("k", "v"));
      await machine.crash();
    }
  }

  test("are counted, and the state is rebuilt and the count restarted after limits.stateOpenings of them", async () => {
    const directory = await temporaryDirectory();
    await openAndCrash(directory, limits.stateOpenings);
    const machine = await reopened(directory);
    expect(machine).toMatchObject({ rebuilt: true, appliedIndex: 0, keyCount: 0 });
    expect(machine.rebuildReason).toContain(`ended ${limits.stateOpenings} times soon after it had opened`);
    applyOperation(machine, put("k", "v"));
    await machine.crash();
    expect(await reopened(directory)).toMatchObject({ rebuilt: false, appliedIndex: 1 });
  });

  test("are forgotten after one that ended with a clean close", async () => {
    const directory = await temporaryDirectory();
    await openAndCrash(directory, limits.stateOpenings - 1);
    await (await reopened(directory)).close();
    await openAndCrash(directory, limits.stateOpenings);
    expect((await reopened(directory)).rebuilt).toBe(true);
  });

  test("are forgotten after one that lasted", async () => {
    const directory = await temporaryDirectory();
    await openAndCrash(directory, limits.stateOpenings - 1);
    const lasting = await reopened(directory, { openingMs: 1 });
    await expect.poll(() => readFile(`${directory}/CURRENT`, "utf8")).toContain("\nopenings 0\n");
    await lasting.crash();
    await openAndCrash(directory, limits.stateOpenings);
    expect((await reopened(directory)).rebuilt).toBe(true);
  });

  test("stay uncounted, and succeed, where the count cannot be written", async () => {
    const directory = await temporaryDirectory();
    await openAndCrash(directory, 1);
    const fs: typeof nodeFileSystem = {
      ...nodeFileSystem,
      async open(path, mode) {
        if (path.includes("/CURRENT") && mode !== "read") throw new CairnError("DISK_FULL", "no space left");
        return nodeFileSystem.open(path, mode);
      },
    };
    for (let opening = 0; opening <= limits.stateOpenings; opening++) {
      const machine = await openLmdb({ directory, fs });
      expect(machine).toMatchObject({ rebuilt: false, appliedIndex: 1 });
      await machine.crash();
    }
  });

  test("do not repeat for ever when a page that cannot be read ends the process", async () => {
    const directory = await temporaryDirectory();
    const machine = await openLmdb({ directory });
    applyAll(machine, LOG);
    await machine.close();
    const good = await readFile(`${directory}/${DATA}`);
    const start = async () => {
      const child = startProcess(process.execPath, [CHILD, directory]);
      const { signal } = await child.ended();
      return signal ?? child.stdout.trim();
    };
    for (let death = 1; death <= limits.stateOpenings; death++) {
      expect(await start()).toMatch(/^SIG(BUS|SEGV|ABRT)$/);
      // The damage is one that only LMDB comes across.
      await writeFile(`${directory}/${DATA}`, good);
    }
    expect(await start()).toBe("rebuilt");
  });
});

test("a state of the previous format, without checksums, is discarded with the reason (T7)", async () => {
  const directory = await temporaryDirectory();
  await mkdir(`${directory}/view-1`);
  await writeFile(`${directory}/view-1/data.mdb`, Buffer.alloc(100));
  await writeFile(`${directory}/CURRENT`, "cairn-state 1\nview-1\nclean 100\n2a69b0f5\n");
  const machine = await openLmdb({ directory });
  expect(machine).toMatchObject({ rebuilt: true, appliedIndex: 0 });
  expect(machine.rebuildReason).toContain("older version, without checksums");
});

/** Opens the state and dies of reading it, if it was not rebuilt. */
const CHILD = fileURLToPath(new URL("../../support/machines/unreadable_state_child.mjs", import.meta.url));

type Rows = Database<Buffer, Uint8Array>;

function withBit(bytes: Buffer, bit: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[bit >>> 3]! ^= 1 << (bit & 7);
  return copy;
}
