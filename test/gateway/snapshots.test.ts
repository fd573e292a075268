import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { type Conversation, del, get, oks, put, puts, startNodes } from "./support.js";

const apply = (entries: readonly object[]) => ({ type: "apply_entries", entries });
const install = (index: number, term: number, state: object) => ({
  type: "install_snapshot",
  snapshot_index: index,
  snapshot_term: term,
  state,
});
const seed = (commitIndex: number, term: number, state: object) => ({
  type: "seed_state",
  state,
  commit_index: commitIndex,
  term,
});
const logInfo = (first: number, last: number, snapshot: number, total: number) => ({
  first_index: first,
  last_index: last,
  snapshot_index: snapshot,
  total_entries: total,
});

async function expectLog(gateway: Conversation, ...numbers: Parameters<typeof logInfo>) {
  await gateway.replies({ type: "get_log_info" }, "get_log_info_ok", logInfo(...numbers));
}

async function expectState(gateway: Conversation, state: object, lastApplied: number) {
  await gateway.replies({ type: "get_state" }, "get_state_ok", { state, last_applied: lastApplied });
}

async function expectSnapshot(gateway: Conversation, index: number, term: number, state: object | null) {
  const fields = { snapshot_index: index, snapshot_term: term, state };
  await gateway.replies({ type: "get_snapshot" }, "get_snapshot_ok", fields);
}

describe("a node without data", () => {
  test("has no log, no state and no snapshot", async () => {
    const gateway = await startNodes();
    await expectLog(gateway, 1, 0, 0, 0);
    await expectState(gateway, {}, 0);
    await expectSnapshot(gateway, 0, 0, null);
    const nothing = { snapshot_index: 0, snapshot_term: 0, state_size_bytes: 0, log_entries_trimmed: 0 };
    await gateway.replies({ type: "take_snapshot" }, "take_snapshot_ok", nothing);
    await gateway.replies({ type: "take_snapshot", threshold: 0 }, "take_snapshot_ok", nothing);
    const upTo0 = { last_included_index: 0, last_included_term: 0 };
    await gateway.replies({ type: "take_snapshot", up_to_index: 0 }, "snapshot_ok", upTo0);
    await gateway.fails({ type: "take_snapshot", up_to_index: 1 }, 22, /index 1 .* 0/);
    await expectLog(gateway, 1, 0, 0, 0);
  });
});

describe("seed_state", () => {
  test("makes a committed log whose application gives the state at each of its indexes", async () => {
    const gateway = await startNodes();
    await gateway.replies(seed(5, 2, { x: 1, y: 2 }), "seed_state_ok", {});
    await expectState(gateway, { x: 1, y: 2 }, 5);
    await expectLog(gateway, 1, 5, 0, 5);
    for (const index of [1, 3, 5]) {
      const fields = { last_included_index: index, last_included_term: 2 };
      await gateway.replies({ type: "take_snapshot", up_to_index: index }, "snapshot_ok", fields);
      await expectSnapshot(gateway, index, 2, { x: 1, y: 2 });
    }
  });

  test("replaces the present state behind the present log", async () => {
    const gateway = await startNodes();
    await gateway.ask(apply(puts(1, 3)));
    await gateway.replies(seed(5, 1, { a: 1 }), "seed_state_ok", {});
    await expectState(gateway, { a: 1 }, 5);
    await gateway.replies(apply(puts(6, 1)), "apply_entries_ok", { results: oks(6, 1), last_applied: 6 });
    await gateway.fails(seed(6, 1, {}), 22, /commit_index 6 .*ends at 6, expected at least 7/);
  });

  test("does nothing for an empty state at 0", async () => {
    const gateway = await startNodes();
    await gateway.replies(seed(0, 1, {}), "seed_state_ok", {});
    await expectLog(gateway, 1, 0, 0, 0);
    await gateway.fails(seed(0, 1, { a: 1 }), 22, /commit_index 0 leaves no place/);
  });

  test("answers error 22 for an older term", async () => {
    const gateway = await startNodes();
    await gateway.ask(apply(puts(1, 1, 5)));
    await gateway.fails(seed(3, 4, {}), 22, /index 2 has term 4, below the term 5 before it/);
    await expectLog(gateway, 1, 1, 0, 1);
  });

  test("sends a long log in several messages", async () => {
    const gateway = await startNodes();
    const last = 2 * limits.appendEntries + 10;
    await gateway.replies(seed(last, 3, { a: 1 }), "seed_state_ok", {});
    await expectLog(gateway, 1, last, 0, last);
    await expectState(gateway, { a: 1 }, last);
  });

  test("takes any values and names", async () => {
    const gateway = await startNodes();
    const state = { "9": [1, { é: null }], __: "x", é: false, "😀": 1.5 };
    await gateway.replies(seed(1, 1, state), "seed_state_ok", {});
    await expectState(gateway, state, 1);
  });

  test("answers error 12 for malformed input and changes nothing", async () => {
    const gateway = await startNodes();
    for (const [fields, text] of [
      [{ commit_index: 5, term: 1 }, /field state is missing/],
      [{ state: [], commit_index: 5, term: 1 }, /field state must be an object/],
      [{ state: { "": 1 }, commit_index: 5, term: 1 }, /field state has a key that is empty/],
      [{ state: {}, commit_index: "5", term: 1 }, /field commit_index must be/],
      [{ state: {}, commit_index: 5 }, /field term is missing/],
      [{ state: {}, commit_index: 5, term: 0 }, /field term must be a whole number from 1/],
      [{ state: {}, commit_index: limits.gatewaySeedEntries + 1, term: 1 }, /gatewaySeedEntries is/],
      [{ state: { a: "x".repeat(limits.valueBytes) }, commit_index: 5, term: 1 }, /valueBytes/],
      [{ state: { a: "x".repeat(1.2e6), b: "y".repeat(1.2e6) }, commit_index: 5, term: 1 }, /entryBytes/],
    ] as const) {
      await gateway.fails({ type: "seed_state", ...fields }, 12, text);
      await expectLog(gateway, 1, 0, 0, 0);
    }
  });
});

describe("take_snapshot with a threshold", () => {
  test("snapshots at the last applied index and trims the log up to it when the log holds enough entries", async () => {
    const gateway = await startNodes();
    await gateway.ask(apply(puts(1, 5, 3)));
    const none = { snapshot_index: 0, snapshot_term: 0, state_size_bytes: 0, log_entries_trimmed: 0 };
    await gateway.replies({ type: "take_snapshot", threshold: 6 }, "take_snapshot_ok", none);
    await expectLog(gateway, 1, 5, 0, 5);
    const reply = await gateway.ask({ type: "take_snapshot", threshold: 5 });
    expect(Object.keys(reply).slice(3)).toEqual([
      "snapshot_index",
      "snapshot_term",
      "state_size_bytes",
      "log_entries_trimmed",
    ]);
    expect(reply).toMatchObject({
      type: "take_snapshot_ok",
      snapshot_index: 5,
      snapshot_term: 3,
      log_entries_trimmed: 5,
    });
    expect(reply.state_size_bytes).toBeGreaterThan(0);
    await gateway.ask({ type: "fly" });
    expect(await gateway.ask({ type: "get_log_info" })).toMatchObject(logInfo(6, 5, 5, 0));
  });

  test("counts the entries behind the newest snapshot, and returns that one's figures when it takes none", async () => {
    const gateway = await startNodes();
    await gateway.ask(apply(puts(1, 3)));
    const first = await gateway.ask({ type: "take_snapshot", threshold: 2 });
    await gateway.ask(apply(puts(4, 2)));
    const figures = { snapshot_index: 3, snapshot_term: 1, state_size_bytes: first.state_size_bytes };
    expect(await gateway.ask({ type: "take_snapshot", threshold: 3 })).toMatchObject({
      ...figures,
      log_entries_trimmed: 0,
    });
    expect(await gateway.ask({ type: "take_snapshot", threshold: 2 })).toMatchObject({
      snapshot_index: 5,
      log_entries_trimmed: 2,
    });
  });

  test("snapshots any entries once when the threshold is left out", async () => {
    const gateway = await startNodes();
    await gateway.ask(apply(puts(1, 1)));
    const taken = await gateway.ask({ type: "take_snapshot" });
    expect(taken).toMatchObject({ type: "take_snapshot_ok", snapshot_index: 1, log_entries_trimmed: 1 });
    const again = await gateway.ask({ type: "take_snapshot" });
    expect(again).toMatchObject({
      snapshot_index: 1,
      state_size_bytes: taken.state_size_bytes,
      log_entries_trimmed: 0,
    });
  });

  test("reports a size that grows with the state, not with the log", async () => {
    const gateway = await startNodes();
    const sizeOf = async () => Number((await gateway.ask({ type: "take_snapshot" })).state_size_bytes);
    await gateway.ask(apply([put(1, "x", "v".repeat(1000))]));
    const one = await sizeOf();
    await gateway.ask(apply(Array.from({ length: 50 }, (_, at) => put(2 + at, "x", "w".repeat(1000)))));
    expect(Math.abs((await sizeOf()) - one)).toBeLessThan(20);
    await gateway.ask(apply([put(52, "y", "v".repeat(1000))]));
    expect(await sizeOf()).toBeGreaterThan(one + 1000);
  });
});

describe("take_snapshot with up_to_index", () => {
  const upTo = (index: unknown) => ({ type: "take_snapshot", up_to_index: index });
  const snapshotOk = (index: number, term: number) => ({ last_included_index: index, last_included_term: term });

  test("snapshots the state at exactly that index, and trims up to it", async () => {
    const gateway = await startNodes();
    await gateway.ask(apply([put(1, "x", 1), put(2, "x", 2, 2), del(3, "x", 2), put(4, "y", 4, 3)]));
    await gateway.replies(upTo(2), "snapshot_ok", snapshotOk(2, 2));
    await expectSnapshot(gateway, 2, 2, { x: 2 });
    await expectLog(gateway, 3, 4, 2, 2);
    await expectState(gateway, { y: 4 }, 4);
    await gateway.replies(upTo(3), "snapshot_ok", snapshotOk(3, 2));
    await expectSnapshot(gateway, 3, 2, {});
    await gateway.replies(upTo(4), "snapshot_ok", snapshotOk(4, 3));
    await expectLog(gateway, 5, 4, 4, 0);
  });

  test("returns the current snapshot's figures at or below its index, and changes nothing", async () => {
    const gateway = await startNodes();
    await gateway.ask(apply(puts(1, 5, 2)));
    await gateway.replies(upTo(3), "snapshot_ok", snapshotOk(3, 2));
    for (const index of [3, 2, 0]) await gateway.replies(upTo(index), "snapshot_ok", snapshotOk(3, 2));
    await expectSnapshot(gateway, 3, 2, { k1: 1, k2: 2, k3: 3 });
    await expectLog(gateway, 4, 5, 3, 2);
  });

  test("answers error 22 with both numbers beyond the last applied index, and changes nothing", async () => {
    const gateway = await startNodes();
    await gateway.ask(apply(puts(1, 3)));
    await gateway.fails(upTo(4), 22, /index 4 .* 3/);
    await gateway.fails(upTo(Number.MAX_SAFE_INTEGER), 22, /index 9007199254740991 .* 3/);
    await expectLog(gateway, 1, 3, 0, 3);
  });

  test("answers error 12 for anything but a whole number", async () => {
    const gateway = await startNodes();
    for (const [index] of [[-1], ["5"], [1.5], [null], [{}]] as const) {
      await gateway.fails(upTo(index), 12, /field up_to_index must be a whole number/);
      await gateway.fails({ type: "take_snapshot", threshold: index }, 12, /field threshold must be a whole number/);
      await gateway.fails({ type: "should_snapshot", threshold: index }, 12, /field threshold must be a whole number/);
    }
  });
});

describe("install_snapshot", () => {
  const installed = (applied: boolean, last: number) => ({ applied, new_last_applied: last });

  test("restores the state of an empty node", async () => {
    const gateway = await startNodes();
    await gateway.replies(install(5, 2, { b: "2", a: "1" }), "install_snapshot_ok", installed(true, 5));
    await expectState(gateway, { a: "1", b: "2" }, 5);
    await expectLog(gateway, 6, 5, 5, 0);
    await expectSnapshot(gateway, 5, 2, { a: "1", b: "2" });
  });

  test("replaces a state and a log that are older", async () => {
    const gateway = await startNodes();
    await gateway.ask(apply(puts(1, 3)));
    await gateway.replies(install(5, 1, { a: 1 }), "install_snapshot_ok", installed(true, 5));
    await expectState(gateway, { a: 1 }, 5);
    await expectLog(gateway, 6, 5, 5, 0);
    await gateway.replies(install(9, 4, {}), "install_snapshot_ok", installed(true, 9));
    await expectState(gateway, {}, 9);
    await expectSnapshot(gateway, 9, 4, {});
  });

  test("does not apply a snapshot that the node has, or has passed", async () => {
    const gateway = await startNodes();
    await gateway.ask(install(5, 2, { a: 1 }));
    await gateway.replies(install(5, 2, { a: 1 }), "install_snapshot_ok", installed(false, 5));
    await gateway.replies(install(3, 1, { b: 1 }), "install_snapshot_ok", installed(false, 5));
    await gateway.ask(apply(puts(6, 2, 2)));
    await gateway.replies(install(6, 2, {}), "install_snapshot_ok", installed(false, 7));
    await expectState(gateway, { a: 1, k6: 6, k7: 7 }, 7);
    await expectLog(gateway, 6, 7, 5, 2);
  });

  test("lets the log continue behind it", async () => {
    const gateway = await startNodes();
    await gateway.ask(install(5, 2, { x: 1 }));
    await gateway.fails(apply(puts(7, 1, 2)), 22, /index 7: expected index 6/);
    await gateway.fails(apply(puts(6, 1, 1)), 22, /term 1/);
    const results = [
      { index: 6, result: 1 },
      { index: 7, result: "ok" },
      { index: 8, result: 2 },
    ];
    const batch = [get(6, "x", 2), put(7, "x", 2, 2), get(8, "x", 3)];
    await gateway.replies(apply(batch), "apply_entries_ok", { results, last_applied: 8 });
    await expectLog(gateway, 6, 8, 5, 3);
    expect(await gateway.ask({ type: "take_snapshot" })).toMatchObject({
      snapshot_index: 8,
      snapshot_term: 3,
      log_entries_trimmed: 3,
    });
  });

  test("is sent by a leader of the node's term when the snapshot's term is older", async () => {
    const gateway = await startNodes();
    await gateway.ask({ type: "write", key: "x", value: 1 });
    await gateway.ask({ type: "restart" });
    await gateway.ask({ type: "write", key: "x", value: 2 });
    await gateway.replies(install(50, 2, { a: 1 }), "install_snapshot_ok", installed(true, 50));
    await expectState(gateway, { a: 1 }, 50);
    await gateway.replies({ type: "write", key: "b", value: 2 }, "write_ok", {});
    await gateway.replies({ type: "read", key: "a" }, "read_ok", { value: 1 });
  });

  test("answers error 22 when its term is lower than a committed entry's below it, because terms never fall along a log", async () => {
    const gateway = await startNodes();
    await gateway.ask(apply(puts(1, 3, 5)));
    await gateway.fails(
      install(9, 4, {}),
      22,
      /snapshot_term 4 at index 9 is below the term 5 of the committed entry 3/,
    );
    await gateway.replies(install(2, 4, {}), "install_snapshot_ok", installed(false, 3));
    await gateway.replies(install(9, 5, {}), "install_snapshot_ok", installed(true, 9));
  });

  test("sends several megabytes whole, in chunks", async () => {
    const gateway = await startNodes();
    const state = Object.fromEntries(Array.from({ length: 3000 }, (_, at) => [`k${at + 1000}`, "v".repeat(1000) + at]));
    await gateway.replies(install(7, 1, state), "install_snapshot_ok", installed(true, 7));
    await expectState(gateway, state, 7);
    await expectSnapshot(gateway, 7, 1, state);
    await gateway.replies({ type: "restart" }, "restart_ok", {
      snapshot_index: 7,
      last_applied: 7,
      replayed_entries: 0,
    });
    await expectState(gateway, state, 7);
  });

  test("answers error 12 for malformed input and changes nothing", async () => {
    const gateway = await startNodes();
    for (const [fields, text] of [
      [{ snapshot_term: 1, state: {} }, /field snapshot_index is missing/],
      [{ snapshot_index: 0, snapshot_term: 1, state: {} }, /field snapshot_index must be a whole number from 1/],
      [{ snapshot_index: 1, snapshot_term: 0, state: {} }, /field snapshot_term must be a whole number from 1/],
      [{ snapshot_index: 1, snapshot_term: 1 }, /field state is missing/],
      [{ snapshot_index: 1, snapshot_term: 1, state: null }, /field state must be an object/],
      [{ snapshot_index: 1, snapshot_term: 1, state: { "": 1 } }, /field state has a key that is empty/],
      [{ snapshot_index: 1, snapshot_term: 1, state: { a: "x".repeat(limits.valueBytes) } }, /valueBytes/],
      [{ snapshot_index: 1, snapshot_term: 1, state: { ["k".repeat(limits.keyBytes + 1)]: 1 } }, /keyBytes/],
    ] as const) {
      await gateway.fails({ type: "install_snapshot", ...fields }, 12, text);
      await expectLog(gateway, 1, 0, 0, 0);
    }
    await gateway.replies(install(5, 2, { a: 1 }), "install_snapshot_ok", installed(true, 5));
  });
});

describe("get_snapshot", () => {
  test("reads the snapshot from disk and verifies it, so that a flipped bit is found", async () => {
    const dataDir = await temporaryDirectory();
    const gateway = await startNodes(["n1"], { dataDir });
    await gateway.ask(apply([put(1, "x", "a rather particular value")]));
    await gateway.ask({ type: "take_snapshot" });
    await expectSnapshot(gateway, 1, 1, { x: "a rather particular value" });
    const folder = join(dataDir, "n1", "snapshots");
    const [name] = (await readdir(folder)).filter((file) => file.endsWith(".snap"));
    const file = await readFile(join(folder, name!));
    file[file.indexOf("particular")]! ^= 1;
    await writeFile(join(folder, name!), file);
    const reply = await gateway.ask({ type: "get_snapshot" });
    expect(reply).toMatchObject({ type: "error", code: 13 });
    await gateway.replies({ type: "get_log_info" }, "get_log_info_ok", logInfo(2, 1, 1, 0));
  });
});

describe("should_snapshot", () => {
  test("compares the entries behind the snapshot with the threshold", async () => {
    const gateway = await startNodes();
    const should = (threshold: number, answer: boolean, entries: number) =>
      gateway.replies({ type: "should_snapshot", threshold }, "should_snapshot_ok", {
        should_snapshot: answer,
        log_entries: entries,
      });
    await should(1, false, 0);
    await should(0, true, 0);
    await gateway.ask(apply(puts(1, 3)));
    await should(3, true, 3);
    await should(4, false, 3);
    await gateway.ask({ type: "take_snapshot", up_to_index: 2 });
    await should(2, false, 1);
    await should(1, true, 1);
  });

  test("uses a threshold of 10000 if none is given", async () => {
    const gateway = await startNodes();
    await gateway.ask(seed(9_999, 1, {}));
    const reply = (answer: boolean, entries: number) => ({ should_snapshot: answer, log_entries: entries });
    await gateway.replies({ type: "should_snapshot" }, "should_snapshot_ok", reply(false, 9_999));
    await gateway.ask(apply(puts(10_000, 1)));
    await gateway.replies({ type: "should_snapshot" }, "should_snapshot_ok", reply(true, 10_000));
  });
});

describe("restart", () => {
  const restarted = (snapshot: number, applied: number, replayed: number) => ({
    snapshot_index: snapshot,
    last_applied: applied,
    replayed_entries: replayed,
  });
  const restart = { type: "restart" };

  test("recovers a node without data", async () => {
    const gateway = await startNodes();
    await gateway.replies(restart, "restart_ok", restarted(0, 0, 0));
    await expectLog(gateway, 1, 0, 0, 0);
  });

  test("recovers from the log alone", async () => {
    const gateway = await startNodes();
    await gateway.ask(apply([put(1, "x", 1), put(2, "y", 2), del(3, "x")]));
    await gateway.replies(restart, "restart_ok", restarted(0, 3, 3));
    await expectState(gateway, { y: 2 }, 3);
    await expectLog(gateway, 1, 3, 0, 3);
  });

  test("recovers from the snapshot and the log behind it", async () => {
    const gateway = await startNodes();
    await gateway.ask(apply(puts(1, 5)));
    await gateway.ask({ type: "take_snapshot", up_to_index: 3 });
    await gateway.replies(restart, "restart_ok", restarted(3, 5, 2));
    await expectState(gateway, { k1: 1, k2: 2, k3: 3, k4: 4, k5: 5 }, 5);
    await expectLog(gateway, 4, 5, 3, 2);
    await expectSnapshot(gateway, 3, 1, { k1: 1, k2: 2, k3: 3 });
  });

  test("recovers from a snapshot that covers all, taken or installed or seeded", async () => {
    const gateway = await startNodes();
    await gateway.ask(seed(5, 2, { x: 1 }));
    await gateway.replies(restart, "restart_ok", restarted(0, 5, 5));
    await gateway.ask({ type: "take_snapshot" });
    await gateway.replies(restart, "restart_ok", restarted(5, 5, 0));
    await gateway.ask(install(9, 3, { y: 2 }));
    await gateway.replies(restart, "restart_ok", restarted(9, 9, 0));
    await expectState(gateway, { y: 2 }, 9);
    await gateway.replies(apply(puts(10, 1, 3)), "apply_entries_ok", { results: oks(10, 1), last_applied: 10 });
    await gateway.replies(restart, "restart_ok", restarted(9, 10, 1));
    await expectState(gateway, { k10: 10, y: 2 }, 10);
  });

  test("keeps the term, so that an older one is still refused", async () => {
    const gateway = await startNodes();
    await gateway.ask(apply(puts(1, 2, 5)));
    await gateway.ask({ type: "take_snapshot" });
    await gateway.ask(restart);
    await gateway.fails(apply(puts(3, 1, 4)), 22, /term 4/);
    await gateway.fails(apply(puts(2, 1, 6)), 22, /index 2 is committed with term 5/);
  });

  test("finds the same data in a second run on the directory", async () => {
    const dataDir = await temporaryDirectory();
    const first = await startNodes(["n1", "n2"], { dataDir });
    await first.ask(apply(puts(1, 4)));
    await first.ask({ type: "take_snapshot", up_to_index: 2 });
    await first.ask(install(7, 3, { z: 1 }), "n2");
    await first.end();
    const second = await startNodes(["n1", "n2"], { dataDir });
    await expectState(second, { k1: 1, k2: 2, k3: 3, k4: 4 }, 4);
    await expectLog(second, 3, 4, 2, 2);
    expect(await second.ask({ type: "get_state" }, "n2")).toMatchObject({ state: { z: 1 }, last_applied: 7 });
  });
});
