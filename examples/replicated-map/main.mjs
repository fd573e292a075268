// A Map that all members share, and that survives them all: what set() has answered is on the disks of a majority.
import { setTimeout as sleep } from "node:timers/promises";
import { CairnMember, inMemory } from "cairn-raft";
import { decode, encode, everyMs, options, run } from "../member.mjs";

class MapMachine {
  entries = new Map();

  apply(command) {
    const { key, value } = decode(command);
    if (value === undefined) this.entries.delete(key);
    else this.entries.set(key, value);
    return undefined;
  }

  serialize() {
    return encode([...this.entries]);
  }

  restore(bytes) {
    this.entries = new Map(decode(bytes));
  }
}

/** Keys and values are JSON. */
class ReplicatedMap {
  static async open(options) {
    return new ReplicatedMap(await CairnMember.start({ ...options, machine: inMemory(() => new MapMachine()) }));
  }

  constructor(member) {
    this.member = member;
  }

  async set(key, value) {
    await this.member.propose(encode({ key, value }), { timeoutMs: 60_000 });
  }

  async delete(key) {
    await this.member.propose(encode({ key }), { timeoutMs: 60_000 });
  }

  /** The newest value; with { stale: true } what this member has, which needs no leader. */
  get(key, how) {
    return this.member.read(({ entries }) => entries.get(key), { timeoutMs: 60_000, ...how });
  }
}

const map = await ReplicatedMap.open(options);
const { id } = map.member;

await run(map.member, async () => {
  console.log(`before this start, ${id} was ${(await map.get(id)) ?? 0}`);
  for (;;) {
    const next = ((await map.get(id)) ?? 0) + 1;
    try {
      await map.set(id, next);
      console.log(`${id} is ${next}`);
    } catch (error) {
      // Nobody else writes this key: the next look at it tells what became of the write.
      if (error.code !== "OUTCOME_UNKNOWN") throw error;
      console.log(error.message);
    }
    await sleep(everyMs);
  }
});
