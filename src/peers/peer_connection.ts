import { RaftService } from "../../gen/cairn/v1/raft_pb.js";
import type { CairnError } from "../base/errors.js";
import { limits } from "../base/limits.js";
import type { PeerAnswer, PeerAppend, PeerRequest } from "../raft/messages.js";
import { Channel, type ChannelSettings } from "../rpc/channel.js";
import { type Client, clientOf } from "../rpc/client.js";
import { toTerm } from "../rpc/message_counters.js";
import { AppendStream } from "./append/append_stream.js";
import { GrpcInstallStream } from "./install/install_stream.js";
import { headerTo, type Self, toVoteAnswer, voteRequest } from "./protocol.js";
import type { InstallStream, Peer } from "./transport.js";

// Holds the connection to one peer, with its streams and calls.

export interface PeerConnectionEvents {
  answer(answer: PeerAnswer): void;
  /** The peer tells the newest rules for commands that it knows. */
  rules(newest: number): void;
  /** The AppendEntries stream has broken. Called once until the peer answers again. */
  broken(error: CairnError): void;
  /** The peer answers again. */
  mended(): void;
}

/**
 * Sends everything to one peer: AppendEntries over one long-lived stream, votes and TimeoutNow as
 * separate calls, snapshots over their own connections.
 */
export class PeerConnection {
  readonly #self: Self;
  readonly #settings: ChannelSettings;
  readonly #events: PeerConnectionEvents;
  readonly #channel: Channel;
  readonly #client: Client<typeof RaftService>;
  readonly #installs = new Set<InstallStream>();
  #stream: AppendStream | undefined;
  /** True when the last stream broke and no later one was answered. */
  #isBroken = false;
  /** True when the peer itself ended the last stream. */
  #isRefused = false;
  /** Time before which no stream is opened. */
  #pausedUntil = 0;
  #closed = false;

  constructor(
    readonly peer: Peer,
    self: Self,
    settings: ChannelSettings,
    events: PeerConnectionEvents,
  ) {
    this.#self = self;
    this.#settings = settings;
    this.#events = events;
    this.#channel = new Channel(peer.address, settings);
    this.#client = clientOf(RaftService, this.#channel);
  }

  send(request: PeerRequest): void {
    switch (request.type) {
      case "append_entries":
        this.#append(request);
        break;
      case "request_vote":
        this.#ask(this.#requestVote(request));
        break;
      case "timeout_now":
        this.#ask(this.#timeoutNow(request));
    }
  }

  openInstall(): InstallStream {
    const stream = new GrpcInstallStream(this.peer, this.#self, this.#settings, (ended) =>
      this.#installs.delete(ended),
    );
    this.#installs.add(stream);
    return stream;
  }

  close(): void {
    this.#closed = true;
    for (const install of this.#installs) install.cancel();
    this.#channel.close();
  }

  #append(message: PeerAppend): void {
    if (this.#stream === undefined && performance.now() < this.#pausedUntil) return;
    this.#stream ??= this.#openStream();
    this.#stream.send(message);
  }

  #openStream(): AppendStream {
    return new AppendStream(this.#channel, this.peer.id, this.#self, this.#isRefused, {
      answer: (answer) => {
        if (this.#closed) return;
        if (this.#isBroken) this.#events.mended();
        this.#isBroken = false;
        this.#events.answer(answer);
      },
      rules: (newest) => {
        if (!this.#closed) this.#events.rules(newest);
      },
      ended: (error) => this.#streamEnded(error),
    });
  }

  #streamEnded(error: CairnError): void {
    this.#stream = undefined;
    if (this.#closed) return;
    // grpc-js pauses by its own rules when there is no connection. A peer that refuses would be
    // called again at once.
    this.#isRefused = !isConnectionLost(error);
    if (this.#isRefused) this.#pausedUntil = performance.now() + limits.peerPauseMs;
    const wasBroken = this.#isBroken;
    this.#isBroken = true;
    if (!wasBroken) this.#events.broken(error);
  }

  /** Sends a request. One that is not answered counts as lost: nobody needs to know. */
  #ask(asked: Promise<PeerAnswer>): void {
    asked.then(
      (answer) => {
        if (!this.#closed) this.#events.answer(answer);
      },
      () => {},
    );
  }

  async #requestVote(request: PeerRequest & { type: "request_vote" }): Promise<PeerAnswer> {
    return toVoteAnswer(request, await this.#client.requestVote(voteRequest(request, this.#self), CALL));
  }

  async #timeoutNow({ to, term }: PeerRequest & { type: "timeout_now" }): Promise<PeerAnswer> {
    const header = headerTo(to, this.#self);
    const answer = await this.#client.timeoutNow({ header, term: BigInt(term) }, CALL);
    return { type: "timeout_now_answer", from: to, term: toTerm(answer.term, "term") };
  }
}

/** An election must not fail because a peer has just come back and is not connected yet. */
const CALL = { timeoutMs: limits.peerCallMs, waitForReady: true };

/** Returns whether an error means that the connection is lost, or about to be. */
function isConnectionLost({ code }: CairnError): boolean {
  return code === "UNREACHABLE" || code === "OUTCOME_UNKNOWN" || code === "STOPPED";
}
