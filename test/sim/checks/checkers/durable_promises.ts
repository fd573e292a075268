import type { PeerRequest, Response } from "../../../../src/raft/messages.js";
import type { HardState } from "../../../../src/raft/types.js";
import { SnapshotStore } from "../../../../src/storage/snapshots/snapshot_store.js";
import { type OpenedLog, WriteAheadLog } from "../../../../src/storage/wal/wal.js";
import type { SimNode } from "../../world/node.js";
import { type Checker, demand, type Observed } from "./checker.js";
import type { CommittedLog } from "./committed_log.js";

/** Of the claims that are new, each nth is looked up on the disk: that takes a while. */
const EACH = 12;

/** What is on a disk if its power goes off now. */
interface OnDisk {
  readonly hardState: HardState;
  readonly last: number;
  readonly termAt: (index: number) => number | undefined;
  /** Index of the newest snapshot. */
  readonly snapshot: number;
}

/**
 * What a node promises is on its disk before the promise leaves: its vote and term, and the log up to the match index. Looked up in what a power
 * failure at this very moment would leave, if nothing survived that was not synced.
 */
export class DurablePromises implements Checker {
  /** What was seen on each disk in the present life: a leader's term, and how far the log was durable in it. */
  readonly #known = new Map<SimNode, { readonly term: number; readonly index: number }>();
  #claims = 0;

  constructor(private readonly committed: CommittedLog) {}

  ended(place: SimNode): void {
    this.#known.delete(place);
  }

  sent(place: SimNode, request: PeerRequest): Promise<void> | undefined {
    if (request.type !== "request_vote" || request.preVote || place.damage !== undefined) return undefined;
    return this.#checkVote(place, request.term, request.from);
  }

  answering({ place }: Observed, request: PeerRequest, answer: Response): Promise<void> | undefined {
    if (place.damage !== undefined) return undefined;
    if (answer.type === "request_vote_answer" && request.type === "request_vote") {
      return answer.granted && !request.preVote ? this.#checkVote(place, request.term, request.from) : undefined;
    }
    if (answer.type !== "append_entries_answer" || answer.outcome === "rejected") return undefined;
    return this.#checkMatch(place, answer.term, answer.matchIndex);
  }

  promised({ place }: Observed, _leader: string, term: number, matchIndex: number): Promise<void> | undefined {
    return this.#checkMatch(place, term, matchIndex);
  }

  /** A leader counts itself with what is on its disk. */
  touched({ place, cairn }: Observed): Promise<void> | undefined {
    const { role, term, log } = cairn.raft;
    if (role !== "leader" || log.termAt(log.commit) !== term) return undefined;
    return this.#checkMatch(place, term, Math.min(log.commit, log.persisted));
  }

  async #checkVote(place: SimNode, term: number, candidate: string): Promise<void> {
    const { hardState } = await look(place);
    const isThere = hardState.term > term || (hardState.term === term && hardState.vote === candidate);
    demand(isThere, "a vote is durable before it leaves", { node: place.id, term, candidate, onDisk: hardState });
  }

  #checkMatch(place: SimNode, term: number, index: number): Promise<void> | undefined {
    const known = this.#known.get(place);
    if (place.damage !== undefined || (known !== undefined && known.term === term && known.index >= index))
      return undefined;
    this.#claims += 1;
    if (this.#claims % EACH !== 0) return undefined;
    return this.#lookFor(place, term, index);
  }

  async #lookFor(place: SimNode, term: number, index: number): Promise<void> {
    const wanted = place.cairn?.raft.log.termAt(index) ?? this.committed.termAt(index);
    const found = await look(place);
    const facts = { node: place.id, term, index, wanted, last: found.last, snapshot: found.snapshot };
    demand(found.hardState.term >= term, "the term of an answer is durable before it leaves", {
      ...facts,
      onDisk: found.hardState,
    });
    const present = found.termAt(index);
    const isCovered =
      index <= found.snapshot || (present !== undefined && (wanted === undefined || present === wanted));
    demand(isCovered, "what a match index promises is durable before it leaves", { ...facts, present });
    this.#known.set(place, { term, index: Math.max(index, Math.min(found.last, index)) });
  }
}

async function look({ disk, clusterId }: SimNode): Promise<OnDisk> {
  const fs = disk.fs.peek(disk.directory, "none");
  const opened: OpenedLog = await WriteAheadLog.open({ fs, directory: `${disk.directory}/wal` });
  const store = await SnapshotStore.open({ fs, directory: `${disk.directory}/snapshots`, clusterId });
  const { log } = opened;
  return {
    hardState: log.hardState,
    last: log.last.index,
    termAt: (index) => log.termAt(index),
    snapshot: store.newest()?.index ?? 0,
  };
}
