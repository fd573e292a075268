import { limits } from "../../../../src/base/limits.js";
import { membershipCodec } from "../../../../src/encoding/membership.js";
import { measureSnapshot } from "../../../../src/encoding/snapshot_encoder.js";
import { MemoryMachine } from "../../../../src/machine/kv/memory_machine.js";
import type { SessionLimits } from "../../../../src/machine/kv/session_limits.js";
import type { Entry, IndexedMembership, Membership, SnapshotMeta } from "../../../../src/raft/types.js";
import { payloadOf, piecesOf, type SavedState } from "../../world/observed_machine.js";
import type { CommittedLog } from "./committed_log.js";

/** How far states are apart that are kept, to get to those between from. */
const STEP = 100;

/** What the state must be at any index: a state machine that is given the committed log and nothing else. */
export class Reference {
  readonly #machine: MemoryMachine;
  /** States that were passed, ascending. */
  readonly #kept: SavedState[] = [];
  readonly #memberships: IndexedMembership[];
  #membershipsUpTo = 0;
  #known = 0;
  /** States that were asked for, by index. */
  readonly #states = new Map<number, SavedState>();

  constructor(
    private readonly committed: CommittedLog,
    private readonly clusterId: string,
    members: Membership,
    private readonly sessionLimits: SessionLimits,
  ) {
    this.#machine = new MemoryMachine(sessionLimits);
    this.#memberships = [{ index: 0, members }];
  }

  /** The state at an index, as the payload of a snapshot. */
  async stateAt(index: number): Promise<SavedState> {
    const known = this.#states.get(index);
    if (known !== undefined) return known;
    const state = index >= this.#machine.appliedIndex ? await this.#goTo(index) : await this.#goBackTo(index);
    this.#states.set(index, state);
    return state;
  }

  /** SHA-256 of the snapshot at an index, as it must be everywhere, in hexadecimal. */
  async snapshotAt(index: number): Promise<{ readonly meta: SnapshotMeta; readonly sha256: string }> {
    const { payload, term } = await this.stateAt(index);
    const meta = { index, term, membership: this.membershipAt(index) };
    const header = { clusterId: this.clusterId, meta, chunkBytes: limits.snapshotChunkBytes };
    const { sha256 } = await measureSnapshot(header, piecesOf(payload));
    return { meta, sha256: Buffer.from(sha256).toString("hex") };
  }

  /** Whether all that was committed up to an index is known. */
  knows(index: number): boolean {
    while (this.#known < index && this.committed.entryAt(this.#known + 1) !== undefined) this.#known += 1;
    return index <= this.#known;
  }

  /** The membership that the committed log says is in force at an index. */
  membershipAt(index: number): IndexedMembership {
    for (let at = this.#membershipsUpTo + 1; at <= index; at++) {
      const entry = this.#entry(at);
      if (entry.type === "configuration")
        this.#memberships.push({ index: at, members: membershipCodec.decode(entry.data) });
    }
    this.#membershipsUpTo = Math.max(this.#membershipsUpTo, index);
    return this.#memberships.findLast((each) => each.index <= index)!;
  }

  async #goTo(index: number): Promise<SavedState> {
    const machine = this.#machine;
    while (machine.appliedIndex < index) {
      const next = Math.min(index, (Math.floor(machine.appliedIndex / STEP) + 1) * STEP);
      machine.apply(this.#entries(machine.appliedIndex + 1, next));
      if (next % STEP === 0) this.#kept.push(await payloadOf(machine));
    }
    return payloadOf(machine);
  }

  async #goBackTo(index: number): Promise<SavedState> {
    const machine = new MemoryMachine(this.sessionLimits);
    const from = this.#kept.findLast((state) => state.index <= index);
    if (from !== undefined) {
      const { index, term, payload } = from;
      await machine.restore(piecesOf(payload), { index, term, membership: { index: 0, members: [] } });
    }
    if (index > machine.appliedIndex) machine.apply(this.#entries(machine.appliedIndex + 1, index));
    return payloadOf(machine);
  }

  #entries(first: number, last: number): Entry[] {
    return Array.from({ length: last - first + 1 }, (_, at) => this.#entry(first + at));
  }

  #entry(index: number): Entry {
    const entry = this.committed.entryAt(index);
    if (entry === undefined) throw new Error(`what was committed at index ${index} is not known`);
    return entry;
  }
}
