import { assert } from "../../base/assert.js";
import { memberKey } from "../../base/ids.js";
import type { IndexedMembership, Membership } from "../types.js";

/**
 * Encodes memberships for configuration entries. Injected, so that the core need not know the
 * encoding.
 */
export interface MembershipCodec {
  encode(members: Membership): Uint8Array;
  /** Decodes a membership. @throws when the bytes are not a membership */
  decode(data: Uint8Array): Membership;
}

/**
 * Tracks the memberships of a log: the one in force at its boundary, and those that configuration
 * entries above it set. A membership takes effect as soon as its entry is in the log (Raft section
 * 6), and stays in force after the entry is trimmed (R10).
 */
export class MembershipHistory {
  /** Ascending by index; the first membership is in force at the boundary. */
  #history: IndexedMembership[];

  constructor(base: IndexedMembership) {
    this.#history = [base];
  }

  /** The membership in force: the latest one in the log, committed or not. */
  get latest(): IndexedMembership {
    return this.#history.at(-1)!;
  }

  /** Returns the membership in force at an index of the log. */
  at(index: number): IndexedMembership {
    const found = this.#history.findLast((membership) => membership.index <= index);
    assert(found !== undefined, "a membership is known at every index of the log", {
      index,
      oldest: this.#history[0]!.index,
    });
    return found;
  }

  /** Returns the memberships that entries above `index` set. */
  after(index: number): readonly IndexedMembership[] {
    return this.#history.filter((membership) => membership.index > index);
  }

  /**
   * Whether a member votes by a membership that may be in force, when entries up to `commit` are
   * known to be committed: by the one in force there, or by a later one. A membership takes effect
   * before it is committed, and may be replaced until it is.
   */
  mayVote(key: string, commit: number): boolean {
    return [this.at(commit), ...this.after(commit)].some(({ members }) => votersOf(members).includes(key));
  }

  append(membership: IndexedMembership): void {
    assert(membership.index > this.latest.index, "memberships are added in the order of the log", {
      index: membership.index,
      latest: this.latest.index,
    });
    this.#history.push(membership);
  }

  /** Discards the memberships that entries above `index` set: the one before is in force again. */
  truncateAfter(index: number): void {
    while (this.#history.length > 1 && this.latest.index > index) this.#history.pop();
  }

  /** Discards the memberships that were replaced at or below `index`. */
  trimTo(index: number): void {
    while (this.#history.length > 1 && this.#history[1]!.index <= index) this.#history.shift();
  }

  /** Restarts the history at a snapshot's membership. */
  reset(base: IndexedMembership): void {
    this.#history = [base];
  }
}

/** Returns the keys of the members that vote. */
export function votersOf(members: Membership): string[] {
  return members.filter((member) => member.role === "voter").map(memberKey);
}
