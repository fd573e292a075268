import { CairnError } from "../../base/errors.js";
import type { InstallMessage, InstallOffer, InstallReply, OfferRefusal } from "../../peers/install/install_messages.js";
import type { InstallSnapshotAnswer } from "../../raft/messages.js";
import type { Clock } from "../../system/clock.js";
import type { RaftView } from "../views.js";
import { inflateChunk } from "./chunk_compression.js";
import { CANCELLED, IncomingSnapshot, type TransferReceiver } from "./receiver.js";

/** Interval in milliseconds at which the sender is told that slow work is still under way. */
const STILL_BUSY_MS = 2_000;

type Position = Pick<RaftView, "term" | "log">;

/**
 * Runs the receiver's side of a transfer: takes the sender's messages and yields the replies, from
 * the offer to the end. No work is left under way when it ends, however it ends.
 * @throws CairnError INVALID_ARGUMENT for messages that no correct sender sends, and every error of
 * {@link IncomingSnapshot}
 */
export async function* receiveSnapshot(
  receiver: TransferReceiver,
  raft: Position,
  clock: Clock,
  messages: AsyncIterable<InstallMessage>,
): AsyncGenerator<InstallReply, void, undefined> {
  const iterator = messages[Symbol.asyncIterator]();
  try {
    const first = await iterator.next();
    if (first.done) throw new CairnError("INVALID_ARGUMENT", "the InstallSnapshot stream ended without an offer");
    const offer = asOffer(first.value);
    const incoming = yield* accept(receiver, raft, clock, offer);
    if (incoming === undefined) return;
    try {
      const { index } = incoming.offer;
      const other = index === offer.index ? {} : { index };
      const compressed = offer.compression === undefined ? {} : { compression: offer.compression };
      yield { kind: "accepted", offset: incoming.offset, ...other, ...compressed };
      if (yield* receiveChunks(incoming, raft, iterator)) yield* finish(incoming, raft, clock);
    } finally {
      await incoming.abort();
    }
  } finally {
    // Not awaited: when an operator has ended the transfer, the sender may never send anything
    // again.
    iterator.return?.().catch(() => {});
  }
}

/** Begins the transfer; returns undefined when the offer was refused. */
async function* accept(
  receiver: TransferReceiver,
  raft: Position,
  clock: Clock,
  offer: InstallOffer,
): AsyncGenerator<InstallReply, IncomingSnapshot | undefined, undefined> {
  const given = new AbortController();
  const accepting = receiver.accept(offer, given.signal);
  let accepted: IncomingSnapshot | OfferRefusal | undefined;
  try {
    accepted = yield* patiently(accepting, clock, () => 0);
  } finally {
    if (accepted === undefined) {
      // The sender has disconnected.
      given.abort();
      const late = await accepting.catch(() => undefined);
      if (late instanceof IncomingSnapshot) await late.abort();
    }
  }
  if (accepted instanceof IncomingSnapshot) return accepted;
  yield refused(accepted, raft);
  return undefined;
}

/**
 * Receives chunks; returns whether the file is complete. If it is not, an operator has ended the
 * transfer.
 */
async function* receiveChunks(
  incoming: IncomingSnapshot,
  raft: Position,
  messages: AsyncIterator<InstallMessage>,
): AsyncGenerator<InstallReply, boolean, undefined> {
  try {
    for (;;) {
      const next = await unlessCancelled(messages.next(), incoming);
      if (next.done) throw new CairnError("INVALID_ARGUMENT", incompleteText(incoming));
      const chunk = asChunk(next.value);
      await incoming.write(chunk.leaderTerm, chunk.offset, await contentsOf(chunk, incoming.offer));
      yield { kind: "progress", receivedBytes: incoming.offset };
      if (incoming.isWhole) return true;
    }
  } catch (error) {
    if (!incoming.isCancelled) throw error;
    yield refused(CANCELLED, raft);
    return false;
  }
}

/** Returns the bytes of the file that a chunk holds. */
async function contentsOf({ data, fileBytes }: InstallMessage & { kind: "chunk" }, offer: InstallOffer) {
  if (fileBytes === undefined) return data;
  if (offer.compression === undefined) {
    throw new CairnError(
      "INVALID_ARGUMENT",
      "a compressed chunk of a snapshot whose offer says nothing of compression",
    );
  }
  return inflateChunk(data, fileBytes);
}

/** Returns the next message; throws when an operator ends the transfer before it comes. */
function unlessCancelled<Next>(next: Promise<Next>, incoming: IncomingSnapshot): Promise<Next> {
  return new Promise((resolve, reject) => {
    incoming.onCancel(() => reject(new CairnError("CANCELLED", CANCELLED.detail)));
    next.then(resolve, reject);
  });
}

async function* finish(
  incoming: IncomingSnapshot,
  raft: Position,
  clock: Clock,
): AsyncGenerator<InstallReply, void, undefined> {
  const answer = yield* patiently(incoming.finish(), clock, () => incoming.offset);
  yield reply(answer, raft);
}

/**
 * Waits for work that may take long, and tells the sender from time to time that it is under way.
 */
async function* patiently<Result extends object>(
  work: Promise<Result>,
  clock: Clock,
  receivedBytes: () => number,
): AsyncGenerator<InstallReply, Result, undefined> {
  work.catch(() => {});
  for (;;) {
    const result = await firstOf(work, clock);
    if (result !== undefined) return result;
    yield { kind: "progress", receivedBytes: receivedBytes() };
  }
}

/** Returns the answer, or undefined when none comes within {@link STILL_BUSY_MS}. */
async function firstOf<Answer>(answer: Promise<Answer>, clock: Clock): Promise<Answer | undefined> {
  let cancel = () => {};
  const pause = new Promise<undefined>((resolve) => {
    cancel = clock.after(STILL_BUSY_MS, () => resolve(undefined));
  });
  try {
    return await Promise.race([answer, pause]);
  } finally {
    cancel();
  }
}

function reply(answer: InstallSnapshotAnswer, raft: Position): InstallReply {
  const { term, detail } = answer;
  switch (answer.outcome) {
    case "installed":
    case "already_committed":
      return { kind: "installed", term, matchIndex: answer.matchIndex, applied: answer.outcome === "installed" };
    case "stale_term":
      return refused({ reason: "stale_term", detail }, raft);
    case "safety":
      throw new CairnError("FAILED_PRECONDITION", detail);
  }
}

function refused(refusal: OfferRefusal, { term, log }: Position): InstallReply {
  return { kind: "refused", ...refusal, term, commitIndex: log.commit, lastLogIndex: log.last.index };
}

function asOffer(message: InstallMessage): InstallMessage & { kind: "offer" } {
  if (message.kind === "offer") return message;
  throw new CairnError("INVALID_ARGUMENT", "the first message of an InstallSnapshot stream must be an offer");
}

function asChunk(message: InstallMessage): InstallMessage & { kind: "chunk" } {
  if (message.kind === "chunk") return message;
  throw new CairnError("INVALID_ARGUMENT", "after its offer, an InstallSnapshot stream must hold chunks only");
}

function incompleteText(incoming: IncomingSnapshot): string {
  return `the stream ended after ${incoming.offset} of ${incoming.offer.fileBytes} bytes of the snapshot`;
}
