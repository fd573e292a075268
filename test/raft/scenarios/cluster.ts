import type { TransferOutcome } from "../../../src/raft/leader/replication.js";
import {
  type InstallSnapshotAnswer,
  isAnswer,
  type PeerAnswer,
  type PeerRequest,
  type Request,
  type Response,
} from "../../../src/raft/messages.js";
import type { Entry } from "../../../src/raft/types.js";
import type { Disk } from "../model/disk.js";
import { Checks } from "./checks.js";
import { linkOf, type Message, Network, type Payload, type SnapshotTransfer } from "./network.js";
import { type NodeSettings, ScenarioNode, type Surroundings } from "./node.js";
import { answerText, outcomeText, requestText, snapshotText } from "./words.js";

/** Who waits for the answer to a request; `script`: nobody, it is only shown. */
type Asker =
  | { readonly kind: "peer"; readonly from: string; readonly request: PeerRequest }
  | { readonly kind: "transfer"; readonly from: string; readonly transfer: SnapshotTransfer }
  | { readonly kind: "script" };

/** Rounds after which a cluster that is left alone must have come to rest. */
const ROUNDS_MAX = 200;

/** The nodes of a scenario and the messages between them. Nothing happens by itself: each method is one thing that a script asks for. */
export class ScenarioCluster implements Surroundings {
  readonly network = new Network();
  readonly nodes = new Map<string, ScenarioNode>();
  readonly #checks = new Checks();
  readonly #askers = new Map<number, Asker>();
  #lastRequest = 0;
  #trace: string[] = [];
  /** While the cluster is left alone, a message is shown when it arrives, and not when it is sent. */
  #showsSent = true;

  takeTrace(): string[] {
    this.#checks.check([...this.nodes.values()].filter(({ isRunning }) => isRunning));
    return this.#trace.splice(0);
  }

  say(line: string): void {
    this.#trace.push(line);
  }

  add(id: string, disk: Disk, settings: NodeSettings): void {
    if (this.nodes.has(id)) throw new Error(`${id} is there already`);
    this.nodes.set(id, new ScenarioNode(id, disk, settings, this));
  }

  /** A node that runs. */
  node(id: string): ScenarioNode {
    const node = this.nodes.get(id);
    if (node?.isRunning !== true) throw new Error(`${id} does not run`);
    return node;
  }

  stop(id: string): void {
    this.node(id).stop();
    this.#forgetRequestsOf(id);
  }

  restart(id: string, powerFailed: boolean): void {
    const node = this.nodes.get(id);
    if (node === undefined) throw new Error(`there is no ${id}`);
    this.#forgetRequestsOf(id);
    node.restart(powerFailed);
  }

  /** Gives a node a request that no node has sent. */
  ask(to: string, request: Omit<Request, "requestId">): void {
    const requestId = this.#nextRequest({ kind: "script" });
    this.node(to).change((raft) => raft.step({ ...request, requestId } as Request));
  }

  /** A node's core wants this to be sent. */
  send(from: string, message: Response | PeerRequest): void {
    if (isAnswer(message)) this.#sendAnswer(from, message);
    else {
      const requestId = this.#nextRequest({ kind: "peer", from, request: message });
      const payload = { kind: "request", request: { ...message, requestId } as Request } as const;
      this.#post({ from, to: message.to, text: requestText(message), payload });
    }
  }

  sendSnapshot(from: string, transfer: SnapshotTransfer): void {
    const { send, snapshot } = transfer;
    const text = `snapshot term=${send.term}: ${snapshotText(snapshot)}`;
    this.#post({ from, to: send.to, text, payload: { kind: "snapshot", transfer } });
  }

  applied(id: string, entries: readonly Entry[]): void {
    this.#checks.applied(id, entries);
  }

  /** Messages arrive. */
  deliver(isMeant: (message: Message) => boolean): void {
    for (const message of this.network.take(isMeant)) this.#arrive(message);
  }

  /** Messages are lost; how a transfer of a snapshot that fails, its sender learns at once. */
  drop(isMeant: (message: Message) => boolean): void {
    for (const message of this.network.take(isMeant)) {
      this.say(`${describe(message)} (lost)`);
      this.#lose(message);
    }
  }

  /** Lets these nodes work and talk to each other until nothing is left to do. */
  stabilize(ids: readonly string[]): void {
    this.#showsSent = false;
    for (let round = 0; this.#isBusy(ids); round++) {
      if (round === ROUNDS_MAX)
        throw new Error(`no rest after ${ROUNDS_MAX} rounds:\n${this.#trace.slice(-20).join("\n")}`);
      for (const id of ids) this.#takeTurn(id);
    }
    this.#showsSent = true;
  }

  #takeTurn(id: string): void {
    this.deliver(({ to }) => to === id);
    if (this.nodes.get(id)?.isRunning === true) this.node(id).work();
    this.#checks.check([...this.nodes.values()].filter(({ isRunning }) => isRunning));
  }

  #isBusy(ids: readonly string[]): boolean {
    const isAddressed = this.network.underWay.some(({ to }) => ids.includes(to));
    return isAddressed || ids.some((id) => this.nodes.get(id)?.isBusy === true);
  }

  #post(message: Message): void {
    const isSent = this.network.send(message);
    if (!isSent || this.#showsSent) this.say(`${describe(message)}${isSent ? "" : " (lost)"}`);
    if (!isSent) this.#lose(message);
  }

  #arrive(message: Message): void {
    const receiver = this.nodes.get(message.to);
    if (receiver?.isRunning !== true) {
      this.say(`${describe(message)} (lost: ${message.to} does not run)`);
      this.#lose(message);
      return;
    }
    this.say(describe(message));
    this.#takeIn(receiver, message.from, message.payload);
  }

  #takeIn(receiver: ScenarioNode, from: string, payload: Payload): void {
    switch (payload.kind) {
      case "request":
        receiver.change((raft) => raft.step(payload.request));
        break;
      case "answer":
        receiver.change((raft) => raft.receive(payload.answer));
        break;
      case "snapshot":
        this.#receiveSnapshot(receiver, from, payload.transfer);
        break;
      case "snapshot-answer":
        receiver.change((raft) => raft.snapshotSent(payload.send, payload.outcome));
    }
  }

  /** As src/node/snapshots/receiver.ts does: most refusals come before the core sees anything of the snapshot. */
  #receiveSnapshot(receiver: ScenarioNode, from: string, transfer: SnapshotTransfer): void {
    const { send, snapshot } = transfer;
    const { term, log, isInstalling } = receiver.raft;
    const answer = (outcome: TransferOutcome, detail = "") =>
      this.#answerTransfer(receiver.id, from, transfer, outcome, detail);
    if (send.term < term) answer({ kind: "failed" }, `term ${send.term} is over, ${receiver.id} is in term ${term}`);
    else if (snapshot.index <= log.commit) answer({ kind: "ahead", commitIndex: log.commit });
    else if (isInstalling) answer({ kind: "failed" }, `${receiver.id} is installing another snapshot`);
    else {
      const requestId = this.#nextRequest({ kind: "transfer", from, transfer });
      const membershipIndex = this.node(from).raft.membership.index;
      const request = {
        type: "install_snapshot",
        from,
        term: send.term,
        membershipIndex,
        snapshot,
        requestId,
      } as const;
      receiver.change((raft) => raft.step(request));
    }
  }

  #sendAnswer(from: string, response: Response): void {
    const asker = this.#askers.get(response.requestId);
    this.#askers.delete(response.requestId);
    if (asker === undefined) return;
    if (asker.kind === "script") this.say(`${from}->${response.to} ${answerText(response)}`);
    else if (asker.kind === "peer") {
      const answer = peerAnswer(from, response, asker.request);
      this.#post({ from, to: asker.from, text: answerText(answer), payload: { kind: "answer", answer } });
    } else if (response.type === "install_snapshot_answer") {
      this.#answerTransfer(from, asker.from, asker.transfer, outcomeOf(response), response.detail);
    }
  }

  #answerTransfer(
    from: string,
    to: string,
    { send }: SnapshotTransfer,
    outcome: TransferOutcome,
    detail: string,
  ): void {
    this.#post({ from, to, text: outcomeText(outcome, detail), payload: { kind: "snapshot-answer", send, outcome } });
  }

  /** Whoever sends a snapshot finds out that the stream has broken. */
  #lose({ from, to, payload }: Message): void {
    if (payload.kind !== "snapshot" && payload.kind !== "snapshot-answer") return;
    const sender = this.nodes.get(payload.kind === "snapshot" ? from : to);
    const send = payload.kind === "snapshot" ? payload.transfer.send : payload.send;
    if (sender?.isRunning === true) sender.change((raft) => raft.snapshotSent(send, { kind: "failed" }));
  }

  #nextRequest(asker: Asker): number {
    this.#askers.set(++this.#lastRequest, asker);
    return this.#lastRequest;
  }

  /** A node that has stopped does not know any more what it has asked. */
  #forgetRequestsOf(id: string): void {
    for (const [requestId, asker] of this.#askers) {
      if (asker.kind !== "script" && asker.from === id) this.#askers.delete(requestId);
    }
    this.network.take(
      ({ to, payload }) => to === id && (payload.kind === "answer" || payload.kind === "snapshot-answer"),
    );
  }
}

function describe(message: Message): string {
  return `${linkOf(message)} ${message.text}`;
}

function peerAnswer(from: string, response: Response, request: PeerRequest): PeerAnswer {
  const { to: _, requestId: __, ...answer } = response;
  if (answer.type === "append_entries_answer" && request.type === "append_entries") {
    const { term, round, prev } = request;
    return { ...answer, from, request: { term, round, prevIndex: prev.index } };
  }
  if (answer.type === "request_vote_answer" && request.type === "request_vote") {
    return { ...answer, from, request: { term: request.term, preVote: request.preVote } };
  }
  if (answer.type === "timeout_now_answer" && request.type === "timeout_now") return { ...answer, from };
  throw new Error(`${request.type} was answered by ${answer.type}`);
}

function outcomeOf(answer: InstallSnapshotAnswer): TransferOutcome {
  return "matchIndex" in answer ? { kind: "installed", matchIndex: answer.matchIndex } : { kind: "failed" };
}
