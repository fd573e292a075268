// Runs a job once a tick in the whole fleet. The leader proposes ticks, and the cluster decides who runs one: two members may take
// themselves for the leader for a moment, and a member may die between its tick and the next.
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { CairnMember, inMemory } from "cairn-raft";
import { decode, encode, everyMs, options, run } from "../member.mjs";

/** Gives each tick to the first proposal that names it. */
class Ticks {
  newest = { tick: 0, proposal: "" };

  apply(command) {
    const { tick, proposal } = decode(command);
    if (tick > this.newest.tick) this.newest = { tick, proposal };
    // A proposal that comes twice gets the same answer.
    return encode(this.newest.proposal === proposal);
  }

  serialize() {
    return encode(this.newest);
  }

  restore(bytes) {
    this.newest = decode(bytes);
  }
}

const member = await CairnMember.start({ ...options, machine: inMemory(() => new Ticks()) });
let timer;
let lastProposed = 0;

member.on("leader", ({ isSelf }) => {
  clearInterval(timer);
  if (isSelf) timer = setInterval(tick, everyMs / 4);
});

async function tick() {
  // The time is in the command: a machine has no clock.
  const now = Math.floor(Date.now() / everyMs);
  if (now === lastProposed) return;
  lastProposed = now;
  try {
    const command = encode({ tick: now, proposal: randomUUID() });
    const { result } = await member.propose(command, { isIdempotent: true });
    if (decode(result)) console.log(`tick ${now}`);
  } catch (error) {
    // Nobody runs this tick, unless somebody else has got it: a tick that may have run elsewhere must not run here.
    console.log(`skipped tick ${now}: ${error.message}`);
  }
}

// The timer does the work.
await run(member, (signal) => once(signal, "abort"));
