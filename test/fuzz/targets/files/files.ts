import type { KeyValueNode } from "../../../../src/server/kv/key_value_node.js";
import { FaultyFileSystem } from "../../../support/disk/faulty_fs.js";
import type { Random } from "../../../support/random.js";
import { expectThat, Finding, type Target, type Trace } from "../../run/target.js";
import { type Damaged, damage } from "./damage.js";
import { ProcessStarts } from "./process_starts.js";
import { expectRefusalByName } from "./refusals.js";
import { restoreDamaged } from "./saved.js";
import { DIRECTORY, makeTemplates, startOn, type Template } from "./template.js";

/** How long a start on a disk in memory may take, in milliseconds. A bound, not a pause. */
const PATIENCE_MS = 60_000;

/** One start in so many is that of a process, on the real disk. */
const PROCESS_STARTS = 150;

/** Starts of nodes on damaged data directories, and restores from damaged snapshots. */
export function files({ withProcesses = true } = {}): Target {
  let templates: Template[] = [];
  const processes = new ProcessStarts();
  return {
    name: "files",
    round: 200,
    async prepare() {
      templates = await makeTemplates();
      if (withProcesses) await processes.prepare();
    },
    async run(random, trace) {
      if (random.oneIn(PROCESS_STARTS) && withProcesses) await processes.run(random, trace);
      else if (random.oneIn(5)) await restoreDamaged(random, random.pick(templates), trace);
      else await startDamaged(random, random.pick(templates), trace);
      return 1;
    },
    check: async () => {},
    close: () => processes.close(),
  };
}

async function startDamaged(random: Random, template: Template, trace: Trace): Promise<void> {
  const damaged = damage(random, template.files);
  trace(`${template.name}: ${damaged.story.join("; ")}`);
  const fs = diskWith(damaged.files);
  const fatal: unknown[] = [];
  let node: KeyValueNode;
  try {
    node = await inTime(
      startOn(fs, (error) => fatal.push(error)),
      "the start",
    );
  } catch (error) {
    expectRefusalByName(error);
    trace(`refused: ${String(error)}`);
    return;
  }
  try {
    await expectTruth(node, template, damaged, trace);
  } finally {
    await inTime(node.stop(), "the stop");
  }
  expectThat(fatal.length === 0, () => `the node stopped itself: ${String(fatal[0])}`);
  expectThat(fs.openFiles.length === 0, () => `files are left open: ${fs.openFiles.join(", ")}`);
}

/** The node must have what was acknowledged, or less only where nothing can show it. */
async function expectTruth(node: KeyValueNode, template: Template, damaged: Damaged, trace: Trace): Promise<void> {
  const { states, lastIndex, clusterId } = template;
  expectThat(
    node.id === "n1" && node.clusterId === clusterId,
    () => `the node has become ${node.id} of ${node.clusterId}`,
  );
  try {
    await inTime(node.campaign(), "the election");
  } catch (error) {
    // It says by itself that it must not lead: it has lost data, or it knows that it is damaged.
    expectRefusalByName(error);
    trace(`does not lead: ${String(error)}`);
    return;
  }
  // The leader has committed an entry of its own behind all that it had.
  const last = node.raft.log.last.index - 1;
  trace(last === lastIndex ? "started whole" : `started with ${last} of ${lastIndex} entries`);
  const expected = states.get(last);
  expectThat(expected !== undefined && last <= lastIndex, () => `the log ends at ${last} instead of ${lastIndex}`);
  const found = new Map<string, string>();
  for (const { key, value } of node.machine.range()) {
    found.set(Buffer.from(key).toString(), Buffer.from(value).toString());
  }
  for (const [key, value] of expected) {
    expectThat(
      found.get(key) === value,
      () => `at index ${last}, ${key} is wrong: ${String(found.get(key)).slice(0, 40)}`,
    );
  }
  expectThat(
    found.size === expected.size,
    () => `at index ${last} there are ${found.size} keys instead of ${expected.size}`,
  );
  if (last < lastIndex && !mayLoseTail(template, damaged)) {
    throw new Finding(`entries ${last + 1} to ${lastIndex} are lost, and the start does not say so`);
  }
}

/**
 * Whether nothing on the disk can show that the end of the log is lost: the log's last segment is touched, and the mark of a clean stop,
 * which tells where the log ended, is gone or was never there. See src/storage/README.md.
 */
function mayLoseTail(template: Template, { touched, files }: Damaged): boolean {
  const segments = [...template.files.keys()].filter((path) => path.endsWith(".wal")).sort();
  const hasMark = template.stoppedCleanly && !touched.has(`${DIRECTORY}/stopped.json`);
  const newest = [...files.keys()]
    .filter((path) => path.endsWith(".wal"))
    .sort()
    .at(-1);
  const isLastTouched = touched.has(segments.at(-1)!) || (newest !== undefined && touched.has(newest));
  return !hasMark && isLastTouched;
}

function diskWith(files: ReadonlyMap<string, Uint8Array>): FaultyFileSystem {
  const directories = new Set<string>();
  for (const path of files.keys()) {
    const parts = path.split("/").slice(1, -1);
    for (let length = 1; length <= parts.length; length++) directories.add(`/${parts.slice(0, length).join("/")}`);
  }
  const fs = new FaultyFileSystem(["/data", DIRECTORY, ...[...directories].sort()]);
  for (const [path, bytes] of files) fs.setContents(path, bytes);
  return fs;
}

async function inTime<Value>(work: Promise<Value>, what: string): Promise<Value> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Finding(`${what} hangs: no end in ${PATIENCE_MS} ms`)), PATIENCE_MS);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
