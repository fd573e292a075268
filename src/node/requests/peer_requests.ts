import { CairnError } from "../../base/errors.js";
import type { InstallOffer } from "../../peers/install/install_messages.js";
import {
  type AppendEntries,
  type AppendEntriesAnswer,
  type InstallSnapshotAnswer,
  type Request,
  type RequestVote,
  type RequestVoteAnswer,
  type Response,
  type TimeoutNow,
  type TimeoutNowAnswer,
  type Unaddressed,
  wellFormed,
} from "../../raft/messages.js";
import type { StagedSnapshot } from "../../storage/snapshots/staged_snapshot.js";
import type { DiskFullRetry } from "../disk_full.js";
import type { NodeHost } from "../host.js";
import type { ProtocolWatch } from "../protocol_watch.js";
import { PendingAnswers } from "./pending_answers.js";
import { checkFitsEntry, checkSender } from "./refusals.js";

/**
 * Handles requests from peers, from arrival to answer. The doc comments are at {@link CairnNode}'s
 * methods.
 */
export class PeerRequests {
  readonly #answers = new PendingAnswers<Response>();
  #nextRequest = 1;
  /**
   * Highest commit index that a leader has sent to this node: how far the cluster is, to this
   * node's knowledge.
   */
  leaderCommit = 0;
  /** The received snapshot that a Ready may ask to install. */
  staged: StagedSnapshot | undefined;

  constructor(
    private readonly host: NodeHost,
    private readonly diskFull: DiskFullRetry,
    private readonly protocol: Pick<ProtocolWatch, "violated">,
  ) {}

  async appendEntries(message: Unaddressed<AppendEntries>): Promise<AppendEntriesAnswer> {
    this.#check(message);
    for (const { index, data } of message.entries) checkFitsEntry(data, `entry ${index}`);
    if (message.entries.length > 0) this.diskFull.assertRoom();
    // The commit index counts even if the leader's term is over: committed entries stay committed.
    const noteCommit = () => {
      this.leaderCommit = Math.max(this.leaderCommit, message.leaderCommit);
    };
    return (await this.#step(message, noteCommit)) as AppendEntriesAnswer;
  }

  async requestVote(message: Unaddressed<RequestVote>): Promise<RequestVoteAnswer> {
    this.#check(message);
    return (await this.#step(message)) as RequestVoteAnswer;
  }

  async timeoutNow(message: Unaddressed<TimeoutNow>): Promise<TimeoutNowAnswer> {
    this.#check(message);
    return (await this.#step(message)) as TimeoutNowAnswer;
  }

  /** Makes a received snapshot the node's state, unless it is outdated by now. */
  async install(offer: InstallOffer, staged: StagedSnapshot): Promise<InstallSnapshotAnswer> {
    this.staged = staged;
    try {
      const { from, leaderTerm: term, membershipIndex, address } = offer;
      const request = {
        type: "install_snapshot",
        from,
        term,
        membershipIndex,
        address,
        snapshot: staged.meta,
      } as const;
      return (await this.#step(request as Unaddressed<Request>)) as InstallSnapshotAnswer;
    } finally {
      this.staged = undefined;
    }
  }

  answer(response: Response): void {
    this.#answers.resolve(response.requestId, response);
  }

  failAll(error: unknown): void {
    this.#answers.rejectAll(error);
  }

  /**
   * Rejects malformed messages, which the core must not get (T5, T6).
   * @throws CairnError INVALID_ARGUMENT
   */
  #check(message: Unaddressed<AppendEntries> | Unaddressed<RequestVote> | Unaddressed<TimeoutNow>): void {
    checkSender(message.from);
    const form = wellFormed(message);
    if ("allowed" in form) return;
    this.protocol.violated(message, form.refused);
    throw new CairnError("INVALID_ARGUMENT", form.refused);
  }

  /** `onAdmitted`: called when the core did not refuse the sender. */
  async #step(message: Unaddressed<Request>, onAdmitted?: () => void): Promise<Response> {
    this.host.ending.assertRunning();
    const requestId = this.#nextRequest++;
    const isAdmitted = this.host.core((raft) => raft.step({ ...message, requestId } as Request));
    if (isAdmitted) onAdmitted?.();
    const answer = this.#answers.wait(requestId);
    this.host.wake();
    return answer;
  }
}
