import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { expect, test } from "vitest";
import { Gateway } from "../../src/gateway/gateway.js";
import { type NodeSource, RunningNodes } from "../../src/gateway/nodes.js";
import { silentLogger } from "../../src/system/logger.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { runCommand, startNode } from "../support/processes/processes.js";
import { triesAll } from "../support/run/tries_all.js";
import { ownNodes } from "./support.js";

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

/** Feeds the gateway an input, expects the replies, and returns them. */
type Converse = (input: string, expected: readonly Message[]) => Promise<Message[]>;

function compare(printed: string, expected: readonly Message[]): Message[] {
  const replies = parseLines(printed);
  expect(replies).toEqual(expected.map((message) => pattern(message)));
  return replies;
}

/** Talks to the command itself. */
async function converseWithCommand(input: string, expected: readonly Message[], args: readonly string[]) {
  const { code, stdout, stderr } = await runCommand(["gateway", ...args], { input });
  expect(code, stderr).toBe(0);
  return compare(stdout, expected);
}

/** Talks to a gateway in this process. */
async function converseWith(nodes: NodeSource, input: string, expected: readonly Message[]): Promise<Message[]> {
  const lines: string[] = [];
  const gateway = new Gateway({
    nodes,
    style: "compact",
    timeoutMs: 30_000,
    logger: silentLogger,
    print: async (line) => void lines.push(line),
    complain: () => {},
  });
  await gateway.run(Readable.from([Buffer.from(input)]));
  await gateway.close();
  return compare(lines.join("\n"), expected);
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

/**
 * Runs all cases of a folder, in each of the three ways in which a gateway can have nodes: the first case with the real command and real
 * nodes, the others with gateway and nodes in this process. `npm run test:all` runs all with the command.
 */
export function testCases(folder: string): void {
  const cases = casesIn(folder).map((tested, at) => ({ ...tested, isReal: triesAll || at === 0 }));

  test("the protocol's cases can be read", () => {
    expect(cases.length).toBeGreaterThan(0);
  });

  test.each(cases)("$name passes on a fresh gateway", async ({ input, expected, isReal }) => {
    if (isReal) await converseWithCommand(input, expected, []);
    else await converseWith(await ownNodes(), input, expected);
  });

  test.each(cases)("$name passes on running nodes", async (tested) => {
    const expected = withoutRestart(tested);
    const ids = nodeIdsOf(tested);
    if (tested.isReal) {
      await converseWithCommand(tested.input, expected, ["--nodes", await startNodes(ids)]);
      return;
    }
    const addresses = await Promise.all(
      ids.map(async (id) => [id, (await (await ownNodes()).open([id]))[0]!.address] as const),
    );
    const running = new RunningNodes(new Map(addresses), { timeoutMs: 30_000, logger: silentLogger });
    await converseWith(running, tested.input, expected);
  });

  test.each(cases)("$name leaves a directory that a second run reads", async (tested) => {
    const directory = await temporaryDirectory();
    const talk: Converse = async (input, expected) =>
      tested.isReal
        ? converseWithCommand(input, expected, ["--data-dir", directory])
        : converseWith(await ownNodes(directory), input, expected);
    const replyToProbe = { dest: "probe" } as Message;
    const probed = nodeIdsOf(tested).flatMap(() => [replyToProbe, replyToProbe, replyToProbe]);
    const first = await talk(tested.input + probes(tested), [...tested.expected, ...probed]);
    const { dest, body } = initOf(tested);
    const init = { src: "c9", dest, body };
    const initOk = { body: { type: "init_ok" } } as unknown as Message;
    const second = await talk(JSON.stringify(init) + probes(tested), [initOk, ...probed]);
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
