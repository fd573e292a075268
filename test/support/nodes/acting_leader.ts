import { CommandOutcome, type CommandResult } from "../../../gen/cairn/v1/storage_pb.js";
import { limits } from "../../../src/base/limits.js";
import { membershipCodec } from "../../../src/encoding/membership.js";
import { encodeSnapshot, measureSnapshot } from "../../../src/encoding/snapshot_encoder.js";
import { encodeCommand } from "../../../src/machine/kv/command.js";
import { MemoryMachine } from "../../../src/machine/kv/memory_machine.js";
import { IncomingSnapshot } from "../../../src/node/snapshots/receiver.js";
import type { InstallOffer } from "../../../src/peers/install/install_messages.js";
import type { AppendEntriesAnswer, InstallSnapshotAnswer } from "../../../src/raft/messages.js";
import type { Entry, IndexedMembership, LogPosition, Membership } from "../../../src/raft/types.js";
import type { KeyValueNode } from "../../../src/server/kv/key_value_node.js";
import { CLUSTER } from "./nodes.js";

export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
export const text = (data: Uint8Array | undefined): string | undefined => data && Buffer.from(data).toString();

/** Members of a cluster of one. */
export const ALONE: IndexedMembership = { index: 0, members: [{ id: "n1", address: "", role: "voter" }] };

export function putCommand(key: string, value: string | Uint8Array): Uint8Array {
  const data = typeof value === "string" ? bytes(value) : value;
  return encodeCommand({ operation: { case: "put", value: { key: bytes(key), value: data } } });
}

/** An entry that sets the key of its own index, `k<index>`, to its term and index. */
export function putEntry(index: number, term = 1): Entry {
  return { index, term, type: "command", data: putCommand(`k${index}`, `${term}.${index}`) };
}

/** Entries from `first` to `last`, of one term. */
export function putEntries(first: number, last: number, term = 1): Entry[] {
  return Array.from({ length: last - first + 1 }, (_, at) => putEntry(first + at, term));
}

export function configurationEntry(index: number, term: number, members: Membership): Entry {
  return { index, term, type: "configuration", data: membershipCodec.encode(members) };
}

/** All keys and values of a node's present state, in order of the keys. */
export function contentsOf(node: KeyValueNode): string[] {
  return [...node.machine.range()].map(({ key, value }) => `${text(key)}=${text(value)}`);
}

/** The value of a key in a node's present state. */
export function readValue(node: KeyValueNode, key: string): string | undefined {
  return text(node.machine.get(bytes(key))?.value);
}

export function isOk(result: CommandResult): boolean {
  return result.outcome === CommandOutcome.OK;
}

/** A snapshot file as another node has it. */
export interface SnapshotFile extends LogPosition {
  readonly file: Buffer;
  readonly sha256: Uint8Array;
}

/** The snapshot of the state that the entries build, which is at the last of them. */
export async function snapshotOf(
  entries: readonly Entry[],
  options: { membership?: IndexedMembership; clusterId?: string } = {},
): Promise<SnapshotFile> {
  const machine = new MemoryMachine();
  machine.apply(entries);
  const { index, term } = entries.at(-1)!;
  const header = {
    clusterId: options.clusterId ?? CLUSTER,
    meta: { index, term, membership: options.membership ?? ALONE },
    chunkBytes: limits.snapshotChunkBytes,
  };
  const payload = async () => (await machine.capture()).payload();
  const { sha256 } = await measureSnapshot(header, await payload());
  const pieces: Buffer[] = [];
  for await (const piece of encodeSnapshot(header, await payload())) pieces.push(Buffer.from(piece));
  return { index, term, file: Buffer.concat(pieces), sha256 };
}

/** Plays the leader of a term towards one node, over the node's own methods. */
export class ActingLeader {
  constructor(
    readonly node: KeyValueNode,
    readonly term: number,
    readonly id = "n9",
  ) {}

  /** `prev` is that before the first entry; `commit` is the leader's commit index. */
  append(entries: readonly Entry[], commit = 0, prev?: LogPosition): Promise<AppendEntriesAnswer> {
    const before = prev ?? this.#before(entries[0]);
    return this.node.appendEntries({
      type: "append_entries",
      from: this.id,
      term: this.term,
      prev: before,
      entries,
      leaderCommit: commit,
    });
  }

  /** Appends and commits entries, and waits until they are applied. */
  async replicate(entries: readonly Entry[], prev?: LogPosition): Promise<void> {
    const { index } = entries.at(-1)!;
    const answer = await this.append(entries, index, prev);
    if (answer.outcome === "rejected") throw new Error(`refused: ${answer.rejection.detail}`);
    await this.node.waitApplied(index);
  }

  offerOf(snapshot: SnapshotFile): InstallOffer {
    const { index, term, file, sha256 } = snapshot;
    return { from: this.id, leaderTerm: this.term, index, term, fileBytes: file.byteLength, sha256 };
  }

  /** Begins a transfer, which must be accepted. */
  async offer(snapshot: SnapshotFile): Promise<IncomingSnapshot> {
    const accepted = await this.node.receiver.accept(this.offerOf(snapshot));
    if (!(accepted instanceof IncomingSnapshot)) throw new Error(`refused: ${accepted.reason}: ${accepted.detail}`);
    return accepted;
  }

  /** Sends a whole snapshot. */
  async install(snapshot: SnapshotFile): Promise<InstallSnapshotAnswer> {
    const incoming = await this.offer(snapshot);
    await this.send(incoming, snapshot);
    return incoming.finish();
  }

  /** Sends the file's bytes up to `end`. */
  async send(incoming: IncomingSnapshot, { file }: SnapshotFile, end = file.byteLength): Promise<void> {
    for (let at = incoming.offset; at < end; at += 64 * 1024) {
      await incoming.write(this.term, at, file.subarray(at, Math.min(at + 64 * 1024, end)));
    }
  }

  /** Follows from the node's own log. */
  #before(first: Entry | undefined): LogPosition {
    const { log } = this.node.raft;
    if (first === undefined) return log.last;
    return { index: first.index - 1, term: log.termAt(first.index - 1) ?? 0 };
  }
}
