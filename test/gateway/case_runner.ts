import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { runCommand, startNode } from "../support/processes/processes.js";

/** A conversation in two files: NAME.in.jsonl is fed to the gateway, and NAME.out.jsonl has an expected reply a line. */
interface Case {
  readonly name: string;
  readonly input: string;
  readonly expected: readonly Message[];
}

interface Message {
  readonly src: string;
  readonly dest: string;
  readonly body: Readonly<Record<string, unknown>>;
}

function casesIn(folder: string): Case[] {
  const names = readdirSync(folder).flatMap((file) => (file.endsWith(".in.jsonl") ? [file.slice(0, -9)] : []));
  return names.sort().map((name) => ({
    name,
    input: readFileSync(join(folder, `${name}.in.jsonl`), "utf8"),
    expected: parseLines(readFileSync(join(folder, `${name}.out.jsonl`), "utf8")),
  }));
}

function parseLines(text: string): Message[] {
  return text.split("\n").flatMap((line) => (line === "" ? [] : [JSON.parse(line) as Message]));
}

/** What is named in `want` must be there with that value; "*" stands for any; an expected `state` is the whole state. */
function pattern(want: unknown, name = ""): unknown {
  if (want === "*") return expect.anything();
  if (Array.isArray(want)) return want.map((item) => pattern(item));
  if (typeof want !== "object" || want === null) return want;
  const members = Object.entries(want).map(([key, value]) => [key, pattern(value, key)]);
  return name === "state" ? Object.fromEntries(members) : expect.objectContaining(Object.fromEntries(members));
}

async function converse(input: string, expected: readonly Message[], args: readonly string[]): Promise<Message[]> {
  const { code, stdout, stderr } = await runCommand(["gateway", ...args], { input });
  expect(code, stderr).toBe(0);
  const replies = parseLines(stdout);
  expect(replies).toEqual(expected.map((message) => pattern(message)));
  return replies;
}

/** The init request of a case. */
function initOf({ input }: Case): Message {
  const lines = input.split(/\r?\n/).filter((line) => line.includes('"type":"init"'));
  return JSON.parse(lines[0]!) as Message;
}

function nodeIdsOf(tested: Case): string[] {
  return initOf(tested).body.node_ids as string[];
}

/** Nodes of somebody else cannot be restarted by the gateway; as nothing happens then, all that follows is the same. */
function withoutRestart({ expected }: Case): Message[] {
  return expected.map((message) =>
    message.body.type === "restart_ok"
      ? { ...message, body: { type: "error", in_reply_to: message.body.in_reply_to, code: 10, text: "*" } }
      : message,
  );
}

/** Requests that show all there is to see of each node. */
function probes(tested: Case): string {
  const types = ["get_state", "get_log_info", "get_snapshot"];
  const requests = nodeIdsOf(tested).flatMap((dest) =>
    types.map((type) => JSON.stringify({ src: "probe", dest, body: { type, msg_id: 1 } })),
  );
  return `\n${requests.join("\n")}\n`;
}

/** The replies to {@link probes}. */
function seen(replies: readonly Message[]): object[] {
  return replies.flatMap(({ src, dest, body }) => (dest === "probe" ? [{ src, ...body, msg_id: 0 }] : []));
}

/** Runs all cases of a folder against the real command, in each of the three ways in which it can have nodes. */
export function testCases(folder: string): void {
  const cases = casesIn(folder);

  test("the protocol's cases can be read", () => {
    expect(cases.length).toBeGreaterThan(0);
  });

  test.each(cases)("$name passes on a fresh gateway", async ({ input, expected }) => {
    await converse(input, expected, []);
  });

  test.each(cases)("$name passes on running nodes", async (tested) => {
    await converse(tested.input, withoutRestart(tested), ["--nodes", await startNodes(nodeIdsOf(tested))]);
  });

  test.each(cases)("$name leaves a directory that a second run reads", async (tested) => {
    const args = ["--data-dir", await temporaryDirectory()];
    const replyToProbe = { dest: "probe" } as Message;
    const probed = nodeIdsOf(tested).flatMap(() => [replyToProbe, replyToProbe, replyToProbe]);
    const first = await converse(tested.input + probes(tested), [...tested.expected, ...probed], args);
    const { dest, body } = initOf(tested);
    const init = { src: "c9", dest, body };
    const initOk = { body: { type: "init_ok" } } as unknown as Message;
    const second = await converse(JSON.stringify(init) + probes(tested), [initOk, ...probed], args);
    expect(seen(second)).toEqual(seen(first));
    expect(seen(second)).toHaveLength(probed.length);
  });
}

/** A fresh process for each id; returns what --nodes takes. */
async function startNodes(ids: readonly string[]): Promise<string> {
  const started = await Promise.all(
    ids.map(async (id) => {
      const data = await temporaryDirectory();
      const { address } = await startNode({ id, data, args: ["--elections", "manual"] });
      return `${id}=${address}`;
    }),
  );
  return started.join(",");
}
