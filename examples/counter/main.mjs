// A counter that all members share: each adds one now and then, and prints what the counter came to.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { CairnMember, inMemory } from "cairn-raft";
import { decode, encode, everyMs, options, run } from "../member.mjs";

/** Adds one for each request, however often the request comes. */
class Counter {
  count = 0;
  /** Newest request of each sender, and the answer to it. */
  answers = new Map();

  apply(command) {
    const { from, sequence } = decode(command);
    const last = this.answers.get(from) ?? { sequence: 0, count: 0 };
    if (sequence > last.sequence) this.answers.set(from, { sequence, count: ++this.count });
    return encode(this.answers.get(from).count);
  }

  serialize() {
    return encode({ count: this.count, answers: [...this.answers] });
  }

  restore(bytes) {
    const { count, answers } = decode(bytes);
    this.count = count;
    this.answers = new Map(answers);
  }
}

const member = await CairnMember.start({ ...options, machine: inMemory(() => new Counter()) });
const from = randomUUID();

await run(member, async () => {
  for (let sequence = 1; ; sequence++) {
    // The counter knows a request that it has counted, so it may be sent again when its outcome is unknown.
    const { result } = await member.propose(encode({ from, sequence }), { isIdempotent: true, timeoutMs: 60_000 });
    console.log(`count ${decode(result)}`);
    await sleep(everyMs);
  }
});
