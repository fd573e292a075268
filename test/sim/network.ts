import type { PeerAnswer, PeerRequest, Response } from "../../src/core/messages.js";
import { CairnError } from "../../src/errors.js";
import type { Peer, Transport, TransportEvents } from "../../src/transport/transport.js";
import type { SimCluster } from "./cluster.js";
import { SimInstall } from "./install_stream.js";
import type { SimRandom } from "./random.js";
import type { SimNode } from "./sim_node.js";

/** What the network does by itself; {@link LinkRule}s come on top. Delays in milliseconds. */
export interface NetworkWeather {
  readonly delayLeast: number;
  readonly delayMost: number;
  /** Share of the messages that take up to `slowMost` longer, so that others overtake them. */
  readonly slow: number;
  readonly slowMost: number;
  readonly loss: number;
  readonly duplicate: number;
  /** Share of the losses that the sender is told of, as by a connection that breaks. */
  readonly told: number;
  /** Chance for each message of an install stream that the stream breaks there. */
  readonly streamBreak: number;
  /** Chance for each chunk of a snapshot that one of its bits is inverted on the way. */
  readonly corruption: number;
}

/** Something that is the matter with some links for a while. */
export interface LinkRule {
  blocks?(from: string, to: string): boolean;
  delayMs?(from: string, to: string): number;
}

/** How long until a connection to a machine that is gone counts as broken, at most, in milliseconds. */
const KEEPALIVE_MS = 8_000;

/** The network between the nodes: loses, doubles, delays and reorders messages, and breaks streams. */
export class SimNetwork {
  weather: NetworkWeather;
  readonly rules = new Set<LinkRule>();
  readonly #installs = new Set<SimInstall>();

  constructor(
    private readonly cluster: SimCluster,
    weather: NetworkWeather,
    readonly random: SimRandom,
  ) {
    this.weather = weather;
  }

  /** What a node sends with in its present life. */
  transport(node: SimNode, events: TransportEvents): Transport {
    const { life } = node;
    const isAlive = () => node.life === life;
    return {
      send: (to, request) => {
        if (isAlive()) this.#send(node, to, request, events);
      },
      openInstall: (to) => this.#openInstall(node, to),
      retain: () => {},
      close: async () => {
        for (const install of this.#installs) if (install.from === node) install.cancel();
      },
    };
  }

  isBlocked(from: string, to: string): boolean {
    for (const rule of this.rules) if (rule.blocks?.(from, to)) return true;
    return false;
  }

  /** How long a message takes, in milliseconds. */
  delay(from: string, to: string): number {
    const { delayLeast, delayMost, slow, slowMost } = this.weather;
    let ms = this.random.between(delayLeast, delayMost);
    if (this.random.chance(slow)) ms += this.random.between(0, slowMost);
    for (const rule of this.rules) ms += rule.delayMs?.(from, to) ?? 0;
    return ms;
  }

  /** The process at a node is gone: its connections break, which the others notice at once or some time later. */
  lifeEnded(node: SimNode): void {
    for (const install of this.#installs) install.lifeEnded(node, this.random.chance(0.7) ? 1 : KEEPALIVE_MS);
  }

  /** Breaks one of the streams that are open, if there is any. */
  breakInstall(): boolean {
    const open = [...this.#installs];
    if (open.length === 0) return false;
    this.random.pick(open).break("the network broke the stream");
    return true;
  }

  get installs(): number {
    return this.#installs.size;
  }

  #send(from: SimNode, { id }: Peer, request: PeerRequest, events: TransportEvents): void {
    const { cluster } = this;
    const target = cluster.node(id);
    const what = describe(request);
    cluster.checks.sent(from, request);
    const tell = this.random.chance(this.weather.told);
    const lost = () => {
      cluster.count("message lost");
      if (tell) this.#tellUnreachable(from, id, events);
    };
    if (target === undefined || this.#isLost(from.id, id)) {
      lost();
      return;
    }
    const copies = this.random.chance(this.weather.duplicate) ? 2 : 1;
    if (copies === 2) cluster.count("message doubled");
    for (let copy = 0; copy < copies; copy++) {
      cluster.scheduler.arrive(this.delay(from.id, id), target, `takes from ${from.id} ${what}`, () => {
        if (target.cairn === undefined) lost();
        else this.#deliver(from, target, request, events);
      });
    }
  }

  #deliver(from: SimNode, target: SimNode, request: PeerRequest, events: TransportEvents): void {
    const { life } = from;
    const targetLife = target.life;
    ask(target, request).then(
      (answer) => {
        if (target.life !== targetLife) return;
        this.cluster.checks.answering(target, from, request, answer);
        this.#answer(from, life, target.id, toPeerAnswer(target.id, request, answer), events);
      },
      (error) => {
        if (target.life !== targetLife) return;
        const { code } = CairnError.from(error);
        this.cluster.count(`request refused with ${code}`);
        if (code === "STOPPED" || code === "DISK_FULL") this.#tellUnreachable(from, target.id, events);
        else
          this.cluster.fail("peers send only what a peer takes", `${target.id} refused ${describe(request)}: ${error}`);
      },
    );
  }

  #answer(to: SimNode, life: number, from: string, answer: PeerAnswer, events: TransportEvents): void {
    if (to.life !== life || this.#isLost(from, to.id)) return;
    const copies = this.random.chance(this.weather.duplicate) ? 2 : 1;
    for (let copy = 0; copy < copies; copy++) {
      const label = `hears from ${from} ${describeAnswer(answer)}`;
      this.cluster.scheduler.after(this.delay(from, to.id), to, label, () => events.answer(answer));
    }
  }

  #tellUnreachable(node: SimNode, peer: string, events: TransportEvents): void {
    const label = `cannot reach ${peer}`;
    this.cluster.scheduler.after(this.delay(peer, node.id), node, label, () => events.unreachable(peer));
  }

  #isLost(from: string, to: string): boolean {
    return this.isBlocked(from, to) || this.random.chance(this.weather.loss);
  }

  #openInstall(from: SimNode, { id }: Peer): SimInstall {
    const install: SimInstall = new SimInstall(this.cluster, this, from, id, () => this.#installs.delete(install));
    this.#installs.add(install);
    return install;
  }
}

function ask(target: SimNode, request: PeerRequest): Promise<Response> {
  const node = target.cairn!;
  switch (request.type) {
    case "append_entries": {
      const { to: _to, round: _round, ...message } = request;
      return node.appendEntries(message);
    }
    case "request_vote": {
      const { to: _to, ...message } = request;
      return node.requestVote(message);
    }
    case "timeout_now": {
      const { to: _to, ...message } = request;
      return node.timeoutNow(message);
    }
  }
}

/** What the asker hears: the answer, and of the request only what it remembers itself. */
function toPeerAnswer(from: string, request: PeerRequest, response: Response): PeerAnswer {
  const { to: _to, requestId: _requestId, ...answer } = response;
  if (answer.type === "append_entries_answer" && request.type === "append_entries") {
    const { term, round, prev, acknowledged } = request;
    return { ...answer, from, request: { term, round, prevIndex: prev.index, acknowledged } };
  }
  if (answer.type === "request_vote_answer" && request.type === "request_vote") {
    return { ...answer, from, request: { term: request.term, preVote: request.preVote } };
  }
  if (answer.type === "timeout_now_answer") return { ...answer, from };
  throw new Error(`a ${request.type} was answered with ${answer.type}`);
}

function describe(request: PeerRequest): string {
  switch (request.type) {
    case "append_entries": {
      const { term, prev, entries, leaderCommit, round } = request;
      return `append term ${term} prev ${prev.index}/${prev.term} +${entries.length} commit ${leaderCommit} round ${round}`;
    }
    case "request_vote": {
      const { term, last, preVote, leadershipTransfer } = request;
      const kind = preVote ? "pre-vote" : leadershipTransfer ? "transfer vote" : "vote";
      return `${kind} term ${term} last ${last.index}/${last.term}`;
    }
    case "timeout_now":
      return `timeout-now term ${request.term}`;
  }
}

function describeAnswer(answer: PeerAnswer): string {
  switch (answer.type) {
    case "append_entries_answer": {
      const { term, matchIndex, rejection, lastIndex, request } = answer;
      const said =
        rejection === undefined ? `match ${matchIndex}` : `${rejection.reason} at ${rejection.conflictIndex}`;
      return `term ${term} ${said} last ${lastIndex} round ${request.round}`;
    }
    case "request_vote_answer":
      return `term ${answer.term} ${answer.granted ? "granted" : "denied"}${answer.request.preVote ? " (pre-vote)" : ""}`;
    case "timeout_now_answer":
      return `term ${answer.term} timeout-now taken`;
  }
}
