import { CairnError } from "../../base/errors.js";
import type { InstallStream } from "../transport.js";
import type { InstallMessage, InstallOffer, InstallReply } from "./install_messages.js";

/** A chunk of the offered snapshot. */
export type InstallChunk = InstallMessage & { readonly kind: "chunk" };

type AcceptedReply = InstallReply & { readonly kind: "accepted" };
type InstalledReply = InstallReply & { readonly kind: "installed" };
type RefusedReply = InstallReply & { readonly kind: "refused" };

/** The receiver's answer to an offer. */
export type InstallAnswer = AcceptedReply | RefusedReply;

/**
 * The sender's half of a snapshot transfer: the order of its messages, whatever the source of the
 * file is. The caller cancels the stream at the end.
 */
export class InstallConversation {
  readonly #stream: InstallStream;
  readonly #replies: AsyncIterator<InstallReply>;
  readonly #onReply: (reply: InstallReply) => void;

  /** @param onReply called with every reply, before the conversation acts on it */
  constructor(stream: InstallStream, onReply: (reply: InstallReply) => void) {
    this.#stream = stream;
    this.#replies = stream.replies[Symbol.asyncIterator]();
    this.#onReply = onReply;
  }

  /**
   * Makes the offer; returns the receiver's choice, or its refusal. The receiver may have to verify
   * its part file first, and reports progress meanwhile.
   */
  async offer(offer: InstallOffer): Promise<InstallAnswer> {
    await this.#stream.send({ kind: "offer", ...offer });
    for (;;) {
      const reply = await this.#next();
      if (reply.kind === "accepted" || reply.kind === "refused") return reply;
      if (reply.kind !== "progress") throw unexpected(reply);
    }
  }

  /**
   * Sends the chunks from the accepted offset; returns the receiver's last reply. Reads the replies
   * while it sends: the receiver may end the transfer at any time. Cancels the stream when the
   * chunks fail, because the receiver must not wait for the rest.
   * @param chunks makes the chunks until the signal says that no more are needed
   */
  async sendChunks(chunks: (over: AbortSignal) => AsyncIterable<InstallChunk>): Promise<InstalledReply | RefusedReply> {
    const over = new AbortController();
    const sent = this.#sendAll(chunks(over.signal));
    sent.catch(() => {});
    // If sending fails, the replies say why.
    try {
      return await this.#lastReply();
    } finally {
      over.abort();
      this.#stream.cancel();
      await sent.catch(() => {});
    }
  }

  async #sendAll(chunks: AsyncIterable<InstallChunk>): Promise<void> {
    for await (const chunk of this.#cancellingWithout(chunks)) await this.#stream.send(chunk);
  }

  /** Yields the chunks, and cancels the stream when they fail. */
  async *#cancellingWithout(chunks: AsyncIterable<InstallChunk>): AsyncGenerator<InstallChunk, void> {
    try {
      yield* chunks;
    } catch (error) {
      this.#stream.cancel();
      throw error;
    }
  }

  async #lastReply(): Promise<InstalledReply | RefusedReply> {
    for (;;) {
      const reply = await this.#next();
      if (reply.kind === "installed" || reply.kind === "refused") return reply;
      if (reply.kind !== "progress") throw unexpected(reply);
    }
  }

  async #next(): Promise<InstallReply> {
    const { done, value } = await this.#replies.next();
    if (done === true) throw new CairnError("UNREACHABLE", "the receiver ended the stream without an answer");
    this.#onReply(value);
    return value;
  }
}

function unexpected(reply: InstallReply): CairnError {
  return new CairnError("INTERNAL", `the receiver of a snapshot answered ${reply.kind} out of turn`);
}
