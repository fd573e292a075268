import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  assertOperation,
  formatHistory,
  HistoryError,
  type Operation,
  parseHistory,
  readHistory,
  writeHistory,
} from "./history.js";

const common = { client: "c1", key: "k", call: 3, ret: 5 };

const wellFormed: readonly Operation[] = [
  { ...common, op: "get", found: true, out: "", status: "ok" },
  { ...common, op: "get", found: false, status: "ok" },
  { ...common, op: "get", found: false, out: null, status: "ok" },
  { ...common, op: "get", status: "fail" },
  { ...common, op: "get", status: "info", ret: null },
  { ...common, op: "put", value: "line\nbreak \u{1f600} \u2028", status: "ok" },
  { ...common, op: "put", value: "1", status: "info", ret: null },
  { ...common, op: "delete", found: true, status: "ok" },
  { ...common, op: "delete", status: "info", ret: null },
  { ...common, op: "cas", from: "1", value: "2", found: true, status: "ok" },
  { ...common, op: "cas", from: null, value: "2", found: false, status: "ok" },
  { ...common, op: "cas", from: "1", value: "2", found: false, out: null, status: "ok" },
  { ...common, op: "cas", from: "1", value: "2", found: false, out: "3", status: "ok", call: 5 },
];

test("a history is written as one line for each operation, and read back unchanged", () => {
  const text = formatHistory(wellFormed);
  expect(text.split("\n")).toHaveLength(wellFormed.length + 1);
  expect(parseHistory(text)).toEqual(wellFormed);
  expect(formatHistory([])).toBe("");
});

test("blank lines of a history are skipped, and its last line needs no end", () => {
  const [first, second] = wellFormed.map((operation) => JSON.stringify(operation));
  expect(parseHistory(`\n${first}\r\n  \n${second}`)).toEqual(wellFormed.slice(0, 2));
});

test("a history is written to a file and read back", async () => {
  const directory = await mkdtemp(join(tmpdir(), "cairn-history-"));
  try {
    await writeHistory(join(directory, "history.jsonl"), wellFormed);
    expect(await readHistory(join(directory, "history.jsonl"))).toEqual(wellFormed);
  } finally {
    await rm(directory, { recursive: true });
  }
});

test("a torn or malformed line of a history is named", () => {
  const line = JSON.stringify(wellFormed[0]);
  expect(() => parseHistory(`${line}\n${line.slice(0, 20)}`)).toThrow("line 2: not JSON");
  expect(() => parseHistory(`\n\n{"op":"get"}\n`)).toThrow(/^line 3: client is not a string: \{"op":"get"\}$/);
  expect(() => parseHistory("7")).toThrow(HistoryError);
});

const get = { ...common, op: "get", found: true, out: "1", status: "ok" };
const put = { ...common, op: "put", value: "1", status: "ok" };
const remove = { ...common, op: "delete", found: true, status: "ok" };
const cas = { ...common, op: "cas", from: "1", value: "2", found: false, status: "ok" };

test.each<[unknown, string]>([
  [null, "not an object"],
  [{ ...get, client: 1 }, "client is not a string"],
  [{ ...get, key: undefined }, "key is not a string"],
  [{ ...get, op: "scan" }, "op is none of get, put, delete, cas"],
  [{ ...get, status: "timeout" }, "status is none of ok, fail, info"],
  [{ ...get, found: undefined }, "found is not a boolean"],
  [{ ...get, out: null }, "out is not a string, though the key was found"],
  [{ ...get, found: false }, "out is a string, though the key was not found"],
  [{ ...put, value: null }, "value is not a string"],
  [{ ...put, value: undefined, status: "fail" }, "value is not a string"],
  [{ ...put, call: 0.5 }, "call is not a whole number"],
  [{ ...put, ret: null }, "ret is not a whole number"],
  [{ ...put, ret: null, status: "fail" }, "ret is not a whole number"],
  [{ ...put, ret: 2 }, "ret is before call"],
  [{ ...put, status: "info" }, "ret is not null, though the outcome is unknown"],
  [{ ...remove, found: undefined }, "found is not a boolean"],
  [{ ...cas, from: undefined }, "from is neither a string nor null"],
  [{ ...cas, value: null }, "value is not a string"],
  [{ ...cas, found: undefined }, "found is not a boolean"],
  [{ ...cas, out: 1 }, "out is neither a string nor null"],
])("the history line %j is refused: %s", (operation, fault) => {
  expect(() => assertOperation(operation, "here")).toThrow(`here: ${fault}`);
});
