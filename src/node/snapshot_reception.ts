import type { InstallSnapshotAnswer } from "../core/messages.js";
import type { Raft } from "../core/raft.js";
import { CairnError } from "../errors.js";
import type { InstallMessage, InstallReply, OfferRefusal } from "../transport/install_messages.js";
import type { Clock } from "./clock.js";
import { IncomingSnapshot, type SnapshotInbox } from "./snapshot_inbox.js";

/** How often the sender is told that a whole file is still being installed, in milliseconds. */
const STILL_INSTALLING_MS = 2_000;

/**
 * The receiver's side of a transfer, from the offer to the end: what comes in, and what is answered. Whatever way it ends, nothing is left
 * under way.
 * @throws CairnError INVALID_ARGUMENT for what no correct sender says, and all that {@link IncomingSnapshot} throws
 */
export async function* receiveSnapshot(
  inbox: SnapshotInbox,
  raft: Pick<Raft, "term" | "log">,
  clock: Clock,
  messages: AsyncIterable<InstallMessage>,
): AsyncGenerator<InstallReply, void, undefined> {
  let incoming: IncomingSnapshot | undefined;
  try {
    for await (const message of messages) {
      if (incoming === undefined) {
        const accepted = await inbox.accept(asOffer(message));
        if (!(accepted instanceof IncomingSnapshot)) {
          yield refused(accepted, raft);
          return;
        }
        incoming = accepted;
        yield { kind: "accepted", offset: incoming.offset };
        continue;
      }
      const { leaderTerm, offset, data } = asChunk(message);
      await incoming.write(leaderTerm, offset, data);
      if (!incoming.isWhole) {
        yield { kind: "progress", receivedBytes: incoming.offset };
        continue;
      }
      yield* finish(incoming, raft, clock);
      return;
    }
    throw new CairnError("INVALID_ARGUMENT", incompleteText(incoming));
  } finally {
    await incoming?.abort();
  }
}

async function* finish(
  incoming: IncomingSnapshot,
  raft: Pick<Raft, "term" | "log">,
  clock: Clock,
): AsyncGenerator<InstallReply, void, undefined> {
  const answer = incoming.finish();
  answer.catch(() => {});
  for (;;) {
    const first = await firstOf(answer, clock);
    if (first !== undefined) {
      yield reply(first, raft);
      return;
    }
    yield { kind: "progress", receivedBytes: incoming.offset };
  }
}

/** The answer, or undefined when it takes its time. */
async function firstOf<Answer>(answer: Promise<Answer>, clock: Clock): Promise<Answer | undefined> {
  let cancel = () => {};
  const pause = new Promise<undefined>((resolve) => {
    cancel = clock.after(STILL_INSTALLING_MS, () => resolve(undefined));
  });
  try {
    return await Promise.race([answer, pause]);
  } finally {
    cancel();
  }
}

function reply(answer: InstallSnapshotAnswer, raft: Pick<Raft, "term" | "log">): InstallReply {
  const { term, matchIndex, outcome, detail } = answer;
  switch (outcome) {
    case "installed":
    case "already_committed":
      return { kind: "installed", term, matchIndex, applied: outcome === "installed" };
    case "stale_term":
      return refused({ reason: "stale_term", detail }, raft);
    case "safety":
      throw new CairnError("FAILED_PRECONDITION", detail);
  }
}

function refused(refusal: OfferRefusal, { term, log }: Pick<Raft, "term" | "log">): InstallReply {
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

function incompleteText(incoming: IncomingSnapshot | undefined): string {
  if (incoming === undefined) return "the InstallSnapshot stream ended without an offer";
  return `the stream ended after ${incoming.offset} of ${incoming.offer.fileBytes} bytes of the snapshot`;
}
