import { readdirSync, readlinkSync } from "node:fs";
import { mkdtemp, readdir, readFile, readlink, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished } from "vitest";
import type { CommandResult } from "../../../gen/cairn/v1/storage_pb.js";
import type { KeyValueMachine } from "../../../src/machine/kv/key_value_machine.js";
import { MemoryMachine } from "../../../src/machine/kv/memory_machine.js";
import { checkKeyValuePayload } from "../../../src/machine/kv/payload_check.js";
import { CairnNode } from "../../../src/node/node.js";
import type { MachineOpener, NodeOptions } from "../../../src/node/options.js";
import type { KeyValueNode } from "../../../src/server/kv/key_value_node.js";
import { openKeyValueMachine } from "../../../src/server/kv/open_machine.js";
import { type Call, FaultyFileSystem, type Keep } from "../disk/faulty_fs.js";

export const CLUSTER = "cluster-1";

export type NodeSettings = Partial<NodeOptions<CommandResult, KeyValueMachine>>;

/** Small, so that trimming has segments to remove. */
const SEGMENT_BYTES = 16 * 1024;

/**
 * Where the nodes of a test live. It owns them: nodes that still run when the test ends are stopped, and then nothing may be left of
 * them but what belongs in a data directory.
 */
export abstract class Home {
  readonly #nodes = new Map<KeyValueNode, string>();
  /** Directories whose last node did not stop cleanly. */
  readonly #crashed = new Set<string>();

  abstract directoryOf(id: string): string;
  /** Paths of all files, below the directory of all nodes. */
  abstract files(): Promise<string[]>;
  abstract read(path: string): Promise<Uint8Array>;
  /** Texts of all symbolic links, by path: the locks. */
  abstract links(): Promise<Map<string, string>>;
  /** Paths of the files that this process has open. */
  protected abstract openFiles(): string[];
  protected abstract settings(): Pick<NodeOptions<CommandResult, KeyValueMachine>, "openMachine" | "fs">;

  /** Starts a node that campaigns only when told to, unless the settings say otherwise; its directory goes by its id. */
  async start(settings: NodeSettings = {}): Promise<KeyValueNode> {
    const id = settings.id ?? "n1";
    const directory = settings.directory ?? this.directoryOf(id);
    const node = await CairnNode.start<CommandResult, KeyValueMachine>({
      id,
      directory,
      clusterId: CLUSTER,
      elections: "manual",
      segmentBytes: SEGMENT_BYTES,
      ...this.settings(),
      ...settings,
    });
    this.#nodes.set(node, directory);
    this.#crashed.delete(directory);
    return node;
  }

  /** Starts a node that leads, its no-op applied. */
  async startLeader(settings: NodeSettings = {}): Promise<KeyValueNode> {
    const node = await this.start(settings);
    await node.campaign();
    return node;
  }

  async stop(node: KeyValueNode): Promise<void> {
    this.#nodes.delete(node);
    await node.stop();
  }

  async crash(node: KeyValueNode): Promise<void> {
    this.#crashed.add(this.#nodes.get(node) ?? "");
    this.#nodes.delete(node);
    await node.crash();
  }

  async crashAll(): Promise<void> {
    for (const node of [...this.#nodes.keys()]) await this.crash(node);
  }

  /** For the end of the test. */
  async close(): Promise<void> {
    for (const node of [...this.#nodes.keys()]) await this.stop(node);
    await this.expectNoLeaks();
  }

  /** Nothing is open, and no file is left that only something under way needs. */
  async expectNoLeaks(): Promise<void> {
    if (this.#nodes.size > 0) {
      expect(await this.leftovers()).toEqual([]);
      return;
    }
    expect(this.openFiles(), "files left open").toEqual([]);
    expect(await this.leftovers(), "files left behind").toEqual([]);
    expect((await this.files()).filter((path) => /\/lock-[0-9a-f]+\./.test(path))).toEqual([]);
    for (const [path, text] of await this.links()) {
      if ([...this.#crashed].some((directory) => path.startsWith(`${directory}/`))) continue;
      expect(text, `lock ${path}`).toBe("2:released");
    }
  }

  /** Files of which nothing should be left when nothing is under way. What was received of a snapshot is none of them. */
  async leftovers(): Promise<string[]> {
    const all = (await this.files()).filter((path) => !RECEIVED_PART.test(path));
    return all.filter((path) => /\.part$|\.tmp$|\/scratch\/|\.released$/.test(path)).sort();
  }

  /** Files that hold what was received of a snapshot. */
  async receivedParts(): Promise<string[]> {
    return (await this.files()).filter((path) => RECEIVED_PART.test(path));
  }

  /** Names of a node's snapshot files, whatever they are. */
  async snapshotFiles(id = "n1"): Promise<string[]> {
    const directory = `${this.directoryOf(id)}/snapshots/`;
    return (await this.files())
      .filter((path) => path.startsWith(directory))
      .map((path) => path.slice(directory.length));
  }
}

const RECEIVED_PART = /\/\d{16}-\d{16}-[0-9a-f]{8}\.part$/;

/** Nodes in memory, on a disk that fails as told. */
export class MemoryHome extends Home {
  constructor(readonly disk: FaultyFileSystem = new FaultyFileSystem(["/data"])) {
    super();
  }

  override directoryOf(id: string): string {
    return `/data/${id}`;
  }

  override async files(): Promise<string[]> {
    return [...this.disk.image().keys()];
  }

  override async read(path: string): Promise<Uint8Array> {
    return this.disk.contents(path);
  }

  override async links(): Promise<Map<string, string>> {
    return this.disk.links();
  }

  /** Cuts the power, if it is not off, and returns the home as it is found when it is back. Must be asked before more is done here. */
  async powerCut(keep: Keep = "none", random?: () => number): Promise<MemoryHome> {
    const after = this.disk.crash({ keep, ...(random !== undefined && { random }) });
    await this.crashAll();
    return new MemoryHome(after);
  }

  /** With the power off, nobody could have tidied up. */
  override async expectNoLeaks(): Promise<void> {
    if (!this.disk.powerIsOff) await super.expectNoLeaks();
  }

  /** Cuts the power right before the first call that matches. Whoever calls learns nothing but that. */
  cutPowerAt(matches: (call: Call) => boolean): void {
    this.disk.onCall = (call) => {
      if (matches(call)) this.disk.crash({ keep: "none" });
    };
  }

  protected override openFiles(): string[] {
    return this.disk.openFiles;
  }

  protected override settings() {
    return { fs: this.disk, openMachine: openMemoryMachine };
  }
}

/** A memory machine has nothing on disk to be trusted. */
export const openMemoryMachine: MachineOpener<KeyValueMachine> = Object.assign(async () => new MemoryMachine(), {
  checkPayload: checkKeyValuePayload,
});

/** Nodes with LMDB, in a temporary directory of the real disk. */
export class DiskHome extends Home {
  constructor(readonly directory: string) {
    super();
  }

  override directoryOf(id: string): string {
    return join(this.directory, id);
  }

  override async files(): Promise<string[]> {
    const entries = await readdir(this.directory, { recursive: true, withFileTypes: true });
    return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  }

  override async read(path: string): Promise<Uint8Array> {
    return readFile(path);
  }

  override async links(): Promise<Map<string, string>> {
    const entries = await readdir(this.directory, { recursive: true, withFileTypes: true });
    const paths = entries.filter((entry) => entry.isSymbolicLink()).map((entry) => join(entry.parentPath, entry.name));
    return new Map(await Promise.all(paths.map(async (path) => [path, await readlink(path)] as const)));
  }

  protected override openFiles(): string[] {
    return readdirSync("/proc/self/fd")
      .map((descriptor) => linkOf(`/proc/self/fd/${descriptor}`))
      .filter((path) => path.startsWith(`${this.directory}/`));
  }

  protected override settings() {
    return { openMachine: openKeyValueMachine };
  }
}

/** A descriptor may be closed between being listed and being looked at. */
function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}

/** A home in memory for the test that runs; checked for leaks at its end. */
export function memoryHome(disk?: FaultyFileSystem): MemoryHome {
  const home = new MemoryHome(disk);
  onTestFinished(() => home.close());
  return home;
}

/** A home on the real disk for the test that runs; checked for leaks at its end, and removed. */
export async function diskHome(): Promise<DiskHome> {
  const home = new DiskHome(await mkdtemp(join(tmpdir(), "cairn-node-")));
  onTestFinished(async () => {
    try {
      await home.close();
    } finally {
      await rm(home.directory, { recursive: true, force: true });
    }
  });
  return home;
}

/** Both kinds, for tests that hold for either. */
export const homes: readonly { readonly kind: string; readonly make: () => Promise<Home> }[] = [
  { kind: "memory", make: async () => memoryHome() },
  { kind: "LMDB", make: diskHome },
];
