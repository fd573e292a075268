// What the consensus core alone does: a cluster in one process, whose messages arrive at once and whose writes cost nothing.
// npm run build && node bench/core.mjs [SECONDS]: how long to measure each row (default 2).
//
// In each turn the leader is given some proposals and sends them; the followers write and answer; the leader commits. An entry counts when all
// nodes have applied it. A row is the median of its rounds, after a warm-up.
import { isAnswer } from "../dist/src/raft/messages.js";
import { Raft } from "../dist/src/raft/raft.js";
import { INITIAL_HARD_STATE, LOG_START } from "../dist/src/raft/types.js";

const ROUNDS = 7;
const seconds = Number(process.argv[2] ?? 2);

/** The core asks for an encoding of memberships, which nothing here changes. */
const codec = {
  encode: (members) => new TextEncoder().encode(JSON.stringify(members)),
  decode: (data) => JSON.parse(new TextDecoder().decode(data)),
};

/** Cores that are connected to each other, without any disk. */
class Cluster {
  #nodes = new Map();
  #asked = new Map();
  #requests = 0;
  #applied = new Map();
  messages = 0;

  constructor(size) {
    const ids = Array.from({ length: size }, (_, at) => `n${at + 1}`);
    const members = ids.map((id) => ({ id, address: "", role: "voter" }));
    const log = { boundary: LOG_START, ranges: [], lastIndex: 0, tail: [], commit: 0, applied: 0 };
    for (const id of ids) {
      const options = { id, codec, log, hardState: INITIAL_HARD_STATE, memberships: [{ index: 0, members }] };
      this.#nodes.set(id, new Raft({ ...options, elections: "manual", electionTicks: 10, random: () => 0 }));
      this.#applied.set(id, 0);
    }
    this.leader = this.#nodes.get("n1");
    this.leader.campaign();
    while (!this.leader.isEstablishedLeader) this.turn();
  }

  /** What the slowest node has applied. */
  get applied() {
    return Math.min(...this.#applied.values());
  }

  /** Everybody sends what there is to send, and carries out its Readys. */
  turn() {
    for (const [id, raft] of this.#nodes) {
      this.#send(id, raft.takeMessages());
      if (raft.hasUntoldCommit) raft.announceCommit();
      while (raft.hasReady) this.#carryOut(id, raft, raft.ready());
    }
  }

  #carryOut(id, raft, ready) {
    raft.applied(ready.committed);
    raft.written(ready);
    this.#send(id, ready.messages);
    this.#send(id, raft.takeMessages());
    this.#applied.set(id, this.#applied.get(id) + ready.committed.length);
  }

  #send(from, messages) {
    for (const message of messages) {
      this.messages += 1;
      if (isAnswer(message)) this.#answer(from, message);
      else {
        const requestId = ++this.#requests;
        this.#asked.set(requestId, { from, request: message });
        this.#nodes.get(message.to).step({ ...message, requestId });
      }
    }
  }

  #answer(from, answer) {
    const { from: to, request } = this.#asked.get(answer.requestId);
    this.#asked.delete(answer.requestId);
    this.#nodes.get(to).receive(asReceived(from, answer, request));
  }
}

/** An answer as whoever asked gets it. What a cluster does that is never disturbed is written out: copying any object is slow. */
function asReceived(from, answer, { term, round, prev, preVote }) {
  if (answer.type !== "append_entries_answer") return { ...answer, from, request: { term, preVote } };
  return {
    type: answer.type,
    from,
    term: answer.term,
    outcome: answer.outcome,
    matchIndex: answer.matchIndex,
    rejection: answer.rejection,
    lastIndex: answer.lastIndex,
    request: { term, round, prevIndex: prev.index },
  };
}

/** Proposes for about so many milliseconds. Returns entries and messages a second, and microseconds of CPU an entry. */
function measure(cluster, data, perTurn, ms) {
  const { applied, messages } = cluster;
  const cpu = process.cpuUsage();
  const start = performance.now();
  let now = start;
  let proposed = 0;
  while (now - start < ms) {
    for (let left = perTurn; left > 0; left--) {
      if (cluster.leader.propose(data).accepted === undefined) throw new Error("a proposal was refused");
    }
    proposed += perTurn;
    cluster.turn();
    now = performance.now();
  }
  while (cluster.applied < applied + proposed) cluster.turn();
  const elapsed = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return {
    entries: proposed / elapsed,
    messages: (cluster.messages - messages) / elapsed,
    cpu: (user + system) / proposed,
  };
}

function median(numbers) {
  return numbers.toSorted((one, other) => one - other)[Math.floor(numbers.length / 2)];
}

function row(size, perTurn, bytes) {
  const cluster = new Cluster(size);
  const data = new Uint8Array(bytes).fill(7);
  const ms = (seconds * 1000) / ROUNDS;
  measure(cluster, data, perTurn, ms);
  const rounds = Array.from({ length: ROUNDS }, () => measure(cluster, data, perTurn, ms));
  const rates = rounds.map(({ entries }) => entries);
  return {
    nodes: size,
    "a turn": `${perTurn} x ${bytes} B`,
    "entries/s": Math.round(median(rates)),
    "slowest round": Math.round(Math.min(...rates)),
    "CPU us/entry": median(rounds.map(({ cpu }) => cpu)).toFixed(2),
    "messages/s": Math.round(median(rounds.map(({ messages }) => messages))),
  };
}

console.table([row(3, 64, 256), row(3, 1000, 16), row(3, 1, 256), row(5, 64, 256), row(5, 1000, 16), row(1, 64, 256)]);
