import { CairnError } from "../../../../src/base/errors.js";
import { incarnationOf, nameOf } from "../../../../src/base/ids.js";
import type { Self } from "../../../../src/peers/protocol.js";
import type { Peer, Transport, TransportEvents } from "../../../../src/peers/transport.js";
import { misdirected } from "../../../../src/raft/membership/recipient.js";
import type { AppendRejection, PeerAnswer, PeerRequest, Response } from "../../../../src/raft/messages.js";
import type { SimCluster } from "../cluster.js";
import type { RunningNode, SimNode } from "../node.js";
import type { SimRandom } from "../random.js";
import { SimInstall } from "./install_stream.js";
import { SimIntroductions } from "./introductions.js";
import { SimReadQuestions } from "./read_questions.js";

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
  /** Share of the requests of new nodes of which another copy arrives much later. */
  readonly ghost: number;
}

/** Where answers go: a node in its present life, with its present identity. */
interface Sender {
  readonly place: SimNode;
  readonly life: number;
  readonly self: Self;
  readonly events: TransportEvents;
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
  readonly introductions: SimIntroductions;
  readonly readQuestions: SimReadQuestions;
  readonly #installs = new Set<SimInstall>();

  constructor(
    private readonly cluster: SimCluster,
    weather: NetworkWeather,
    readonly random: SimRandom,
  ) {
    this.weather = weather;
    this.introductions = new SimIntroductions(cluster, this);
    this.readQuestions = new SimReadQuestions(cluster, this);
  }

  /** What a node sends with in its present life. */
  transport(node: SimNode, self: Self, events: TransportEvents): Transport {
    const { life } = node;
    const sender = { place: node, life, self, events };
    return {
      send: (to, request) => {
        if (node.life === life) this.#send(sender, to, request);
      },
      openInstall: (to) => this.#openInstall(node, self, to),
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

  /** The node at a place, if it is the one that a message is meant for: the edge of a real node checks the same. */
  recipient(target: SimNode, key: string, { clusterId }: Self): RunningNode | undefined {
    const { cairn } = target;
    if (cairn === undefined) return undefined;
    const meant = { clusterId, id: nameOf(key), incarnation: incarnationOf(key) };
    if (misdirected(meant, cairn) === undefined) return cairn;
    this.cluster.count("message for another directory");
    return undefined;
  }

  isLost(from: string, to: string): boolean {
    return this.isBlocked(from, to) || this.random.chance(this.weather.loss);
  }

  #send(from: Sender, { id: key }: Peer, request: PeerRequest): void {
    const { cluster } = this;
    const id = nameOf(key);
    const target = cluster.node(id);
    const what = describe(request);
    cluster.checks.sent(from.place, request);
    const tell = this.random.chance(this.weather.told);
    const lost = () => {
      cluster.count("message lost");
      if (tell) this.#tellUnreachable(from, key);
    };
    if (target === undefined || this.isLost(from.place.id, id)) {
      lost();
      return;
    }
    const copies = this.random.chance(this.weather.duplicate) ? 2 : 1;
    if (copies === 2) cluster.count("message doubled");
    for (let copy = 0; copy < copies; copy++) {
      cluster.scheduler.arrive(this.delay(from.place.id, id), target, `takes from ${from.place.id} ${what}`, () => {
        const node = this.recipient(target, key, from.self);
        if (node === undefined) lost();
        else this.#deliver(from, target, node, request);
      });
    }
  }

  #deliver(from: Sender, target: SimNode, node: RunningNode, request: PeerRequest): void {
    const targetLife = target.life;
    const wasLost = node.raft.lost !== undefined;
    ask(node, request).then(
      (answer) => {
        if (target.life !== targetLife || target.cairn !== node) return;
        this.cluster.checks.answering(target, request, answer, wasLost);
        this.#answer(from, target.id, toPeerAnswer(request, answer));
      },
      (error) => {
        if (target.life !== targetLife) return;
        const { code } = CairnError.from(error);
        this.cluster.count(`request refused with ${code}`);
        if (code === "STOPPED" || code === "DISK_FULL") this.#tellUnreachable(from, request.to);
        else
          this.cluster.fail("peers send only what a peer takes", `${target.id} refused ${describe(request)}: ${error}`);
      },
    );
  }

  #answer({ place, life, events }: Sender, from: string, answer: PeerAnswer): void {
    if (place.life !== life || this.isLost(from, place.id)) return;
    const copies = this.random.chance(this.weather.duplicate) ? 2 : 1;
    for (let copy = 0; copy < copies; copy++) {
      const label = `hears from ${from} ${describeAnswer(answer)}`;
      this.cluster.scheduler.after(this.delay(from, place.id), place, label, () => {
        this.cluster.checks.heard(place, answer);
        events.answer(answer);
      });
    }
  }

  #tellUnreachable({ place, life, events }: Sender, peer: string): void {
    if (place.life !== life) return;
    const label = `cannot reach ${nameOf(peer)}`;
    this.cluster.scheduler.after(this.delay(nameOf(peer), place.id), place, label, () => events.unreachable(peer));
  }

  #openInstall(from: SimNode, self: Self, { id }: Peer): SimInstall {
    const install: SimInstall = new SimInstall(this.cluster, this, from, self, id, () =>
      this.#installs.delete(install),
    );
    this.#installs.add(install);
    return install;
  }
}

function ask(node: RunningNode, request: PeerRequest): Promise<Response> {
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
function toPeerAnswer(request: PeerRequest, response: Response): PeerAnswer {
  const { to: _to, requestId: _requestId, ...answer } = response;
  const from = request.to;
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

function describeRejection(rejection: AppendRejection): string {
  return `${rejection.reason} at ${rejection.reason === "log_mismatch" ? rejection.conflictIndex : 0}`;
}

function describeAnswer(answer: PeerAnswer): string {
  switch (answer.type) {
    case "append_entries_answer": {
      const { term, lastIndex, request } = answer;
      const said = answer.outcome === "accepted" ? `match ${answer.matchIndex}` : describeRejection(answer.rejection);
      return `term ${term} ${said} last ${lastIndex} round ${request.round}`;
    }
    case "request_vote_answer":
      return `term ${answer.term} ${answer.granted ? "granted" : "denied"}${answer.request.preVote ? " (pre-vote)" : ""}`;
    case "timeout_now_answer":
      return `term ${answer.term} timeout-now taken`;
  }
}
