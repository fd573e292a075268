import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { KeyValueService } from "../../../../gen/cairn/v1/kv_pb.js";
import { CairnError } from "../../../../src/base/errors.js";
import { type Client, openChannel } from "../../../../src/rpc/client.js";
import type { Random } from "../../../support/random.js";
import { startNode } from "../../nodes/cluster.js";
import type { FuzzedProcess } from "../../nodes/process.js";
import { expectThat, Finding, type Trace } from "../../run/target.js";
import { type Damaged, damage } from "./damage.js";

// Starts of `cairn start` on damaged copies of directories of the real disk. The files of LMDB are left as they are: what lies in them is
// checked by sums of its own, but a damaged tree may end the process (src/storage/README.md).

const KEYS = 40;
const WRITES = 120;

/** How long a start may take until it serves or ends, in milliseconds. A bound, not a pause. */
const PATIENCE_MS = 60_000;

const ARGUMENTS = [
  "--lost-disk",
  "refuse",
  "--heal-timeout-ms",
  "0",
  "--snapshot-entries",
  "50",
  "--trailing-log-bytes",
  "0",
];

interface DiskTemplate {
  readonly name: string;
  readonly path: string;
  readonly files: ReadonlyMap<string, Uint8Array>;
}

/** Directories that a real node has left, one after a stop and one after SIGKILL. */
export class ProcessStarts {
  #directory = "";
  #templates: DiskTemplate[] = [];
  #starts = 0;

  async prepare(): Promise<void> {
    this.#directory = await mkdtemp(join(tmpdir(), "cairn-fuzz-files-"));
    this.#templates = [await this.#make("stopped", "SIGTERM"), await this.#make("killed", "SIGKILL")];
  }

  async close(): Promise<void> {
    if (this.#directory !== "") await rm(this.#directory, { recursive: true, force: true });
  }

  /** Starts a node on a damaged copy: it must refuse by name, or serve what was written, or all of it up to some write. */
  async run(random: Random, trace: Trace): Promise<void> {
    const template = random.pick(this.#templates);
    const damaged = damage(random, template.files);
    trace(`${template.name}: ${damaged.story.join("; ")}`);
    const data = join(this.#directory, `copy-${++this.#starts}`);
    await cp(template.path, data, { recursive: true, filter: (path) => !/\/lock[^/]*$/.test(path) });
    await write(data, damaged);
    const node = startNode({ id: "n1", data, listen: "127.0.0.1:0", args: ARGUMENTS });
    try {
      await node
        .until(() => node.exit !== undefined || isListening(node), "serves or ends", PATIENCE_MS)
        .catch(ignore(node));
      if (node.exit !== undefined) expectRefusal(node);
      else await expectPrefix(node, template.name === "stopped" && !damaged.touched.has("stopped.json"));
    } finally {
      await node.kill();
      await rm(data, { recursive: true, force: true });
    }
  }

  async #make(name: string, signal: NodeJS.Signals): Promise<DiskTemplate> {
    const path = join(this.#directory, name);
    const node = startNode({ id: "n1", data: path, listen: "127.0.0.1:0", args: ARGUMENTS });
    await node.line('{"event":"founded"');
    const channel = openChannel(addressOf(node));
    const kv = channel.client(KeyValueService);
    for (let at = 0; at < WRITES; at++) {
      const pair = { key: Buffer.from(`k${at % KEYS}`), value: Buffer.from(`${at}`) };
      await untilAnswered(() => kv.put(pair, { timeoutMs: 10_000 }));
    }
    channel.close();
    await node.kill(signal);
    const names = await readdir(path, { recursive: true, withFileTypes: true });
    const files = new Map<string, Uint8Array>();
    for (const entry of names) {
      const file = join(entry.parentPath, entry.name);
      const short = file.slice(path.length + 1);
      if (entry.isFile() && !/^(state|lock)/.test(short)) files.set(short, await readFile(file));
    }
    return { name, path, files };
  }
}

function ignore(node: FuzzedProcess): (error: unknown) => void {
  return (error) => {
    // That it ends is one of two good ends.
    if (node.exit === undefined) throw error;
  };
}

async function write(data: string, { files, touched }: Damaged): Promise<void> {
  for (const path of touched) {
    const bytes = files.get(path);
    if (bytes === undefined) await rm(join(data, path), { force: true });
    else {
      await mkdir(dirname(join(data, path)), { recursive: true });
      await writeFile(join(data, path), bytes);
    }
  }
}

function isListening(node: FuzzedProcess): boolean {
  return node.lines.some((line) => line.startsWith('{"event":"listening"'));
}

function addressOf(node: FuzzedProcess): string {
  const line = node.lines.find((line) => line.startsWith('{"event":"listening"'))!;
  return (JSON.parse(line) as { address: string }).address;
}

/** A refusal ends the process with a code and a text, not with a stack. */
function expectRefusal(node: FuzzedProcess): void {
  const { exit, errors } = node;
  expectThat(
    exit === "1" || exit === "2" || exit === "3",
    () => `the start ended with ${exit}: ${errors.slice(-3_000)}`,
  );
  const named = /"code":"(\w+)"/.exec(errors);
  expectThat(named !== null && named[1] !== "INTERNAL", () => `the start says no reason: ${errors.slice(-3_000)}`);
}

/** Reads all keys. They must be those of some moment; of the last one, if the disk can show that less is there. */
async function expectPrefix(node: FuzzedProcess, mustBeWhole: boolean): Promise<void> {
  const channel = openChannel(addressOf(node));
  try {
    const found = await readAll(node, channel.client(KeyValueService));
    if (found === undefined) return;
    const writes = Math.max(-1, ...[...found.values()].map(Number)) + 1;
    for (let key = 0; key < KEYS; key++) {
      const last = lastWriteOf(key, writes);
      const expected = last === undefined ? undefined : String(last);
      expectThat(found.get(`k${key}`) === expected, () => `after ${writes} writes, k${key} is ${found.get(`k${key}`)}`);
    }
    expectThat(
      !mustBeWhole || writes === WRITES,
      () => `only ${writes} of ${WRITES} writes are there, and the start says nothing`,
    );
  } finally {
    channel.close();
  }
}

function lastWriteOf(key: number, writes: number): number | undefined {
  const last = Math.floor((writes - 1 - key) / KEYS) * KEYS + key;
  return last < 0 || writes === 0 ? undefined : last;
}

/** Undefined when the node has ended meanwhile, by a refusal, or does not lead because it knows that it must not. */
async function readAll(
  node: FuzzedProcess,
  kv: Client<typeof KeyValueService>,
): Promise<Map<string, string> | undefined> {
  const deadline = performance.now() + 20_000;
  for (;;) {
    try {
      const all = new Map<string, string>();
      for await (const { kvs } of kv.range({ prefix: Buffer.from("k") }, { timeoutMs: 5_000 })) {
        for (const { key, value } of kvs) all.set(Buffer.from(key).toString(), Buffer.from(value).toString());
      }
      return all;
    } catch (error) {
      if (!(error instanceof CairnError)) throw error;
      if (node.exit !== undefined) {
        expectRefusal(node);
        return undefined;
      }
      if (error.code === "INTERNAL") throw new Finding(`a read of the started node fails: ${error.message}`);
      if (performance.now() > deadline) return undefined;
    }
  }
}

async function untilAnswered(work: () => Promise<unknown>): Promise<void> {
  for (let left = 100; ; left--) {
    try {
      await work();
      return;
    } catch (error) {
      if (left === 0) throw error;
    }
  }
}
