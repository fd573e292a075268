import type { CommandResult } from "../../../../gen/cairn/v1/storage_pb.js";
import { encodeCommand } from "../../../../src/machine/kv/command.js";
import type { KeyValueMachine } from "../../../../src/machine/kv/key_value_machine.js";
import { MemoryMachine } from "../../../../src/machine/kv/memory_machine.js";
import { checkKeyValuePayload } from "../../../../src/machine/kv/payload_check.js";
import { CairnNode } from "../../../../src/node/node.js";
import type { MachineOpener } from "../../../../src/node/options.js";
import type { KeyValueNode } from "../../../../src/server/kv/key_value_node.js";
import { FaultyFileSystem } from "../../../support/disk/faulty_fs.js";
import { Random } from "../../../support/random.js";

// Makes the data directories that are damaged, and knows what each state of theirs was.

export const DIRECTORY = "/data/n1";

/** The state at each index: keys and values as text. */
export type States = ReadonlyMap<number, ReadonlyMap<string, string>>;

/** A directory as a node has left it. */
export interface Template {
  readonly name: string;
  readonly files: ReadonlyMap<string, Uint8Array>;
  readonly states: States;
  /** The last index that was acknowledged. */
  readonly lastIndex: number;
  readonly stoppedCleanly: boolean;
  readonly clusterId: string;
}

const openMachine: MachineOpener<KeyValueMachine> = Object.assign(async () => new MemoryMachine(), {
  checkPayload: checkKeyValuePayload,
});

/** Starts a node on a disk in memory, alone in its cluster. */
export function startOn(fs: FaultyFileSystem, onFatal: (error: unknown) => void): Promise<KeyValueNode> {
  return CairnNode.start<CommandResult, KeyValueMachine>({
    id: "n1",
    directory: DIRECTORY,
    clusterId: CLUSTER,
    elections: "manual",
    // Small, so that a log has several segments, and trimming removes some.
    segmentBytes: 16 * 1024,
    fs,
    openMachine,
    onFatal,
  });
}

const CLUSTER = "cluster-1";

interface TemplateOptions {
  readonly name: string;
  readonly entries: number;
  /** Indexes after which a snapshot is taken. */
  readonly snapshotsAfter: readonly number[];
  readonly keepLogBytes: number;
  readonly stop: "clean" | "crash";
}

const KINDS: readonly TemplateOptions[] = [
  { name: "log only", entries: 60, snapshotsAfter: [], keepLogBytes: 0, stop: "clean" },
  { name: "log only, crashed", entries: 60, snapshotsAfter: [], keepLogBytes: 0, stop: "crash" },
  { name: "snapshots and log", entries: 150, snapshotsAfter: [50, 100], keepLogBytes: 4_000, stop: "clean" },
  { name: "snapshots and log, crashed", entries: 150, snapshotsAfter: [50, 100], keepLogBytes: 4_000, stop: "crash" },
  { name: "trimmed to the snapshot", entries: 80, snapshotsAfter: [40, 80], keepLogBytes: 0, stop: "crash" },
];

export function makeTemplates(): Promise<Template[]> {
  return Promise.all(KINDS.map(makeTemplate));
}

async function makeTemplate({ name, entries, snapshotsAfter, keepLogBytes, stop }: TemplateOptions): Promise<Template> {
  const fs = new FaultyFileSystem(["/data"]);
  const node = await startOn(fs, (error) => {
    throw error;
  });
  const random = new Random(entries);
  await node.campaign();
  const states = new Map<number, ReadonlyMap<string, string>>([[0, new Map()]]);
  let state = new Map<string, string>();
  for (let index = 1; index <= node.machine.appliedIndex; index++) states.set(index, state);
  for (let at = 0; at < entries; at++) {
    const key = `k${random.whole(0, 30)}`;
    const value = `${at} `.repeat(random.whole(1, 150));
    const data = encodeCommand({
      operation: { case: "put", value: { key: Buffer.from(key), value: Buffer.from(value) } },
    });
    const { index } = await node.propose(data);
    state = new Map(state).set(key, value);
    states.set(index, state);
    if (snapshotsAfter.includes(at + 1)) await node.takeSnapshot({ keepLogBytes });
  }
  const lastIndex = node.machine.appliedIndex;
  if (stop === "clean") await node.stop();
  else await node.crash();
  const files = new Map([...fs.image()].filter(([path]) => !/\/lock/.test(path)));
  return { name, files, states, lastIndex, stoppedCleanly: stop === "clean", clusterId: CLUSTER };
}
