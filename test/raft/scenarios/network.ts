import type { SnapshotSend, TransferOutcome } from "../../../src/raft/leader/replication.js";
import type { PeerAnswer, Request } from "../../../src/raft/messages.js";
import type { SnapshotMeta } from "../../../src/raft/types.js";

/** A snapshot on its way: all of its file in one piece. */
export interface SnapshotTransfer {
  readonly send: SnapshotSend;
  readonly snapshot: SnapshotMeta;
}

export type Payload =
  | { readonly kind: "request"; readonly request: Request }
  | { readonly kind: "answer"; readonly answer: PeerAnswer }
  | { readonly kind: "snapshot"; readonly transfer: SnapshotTransfer }
  | { readonly kind: "snapshot-answer"; readonly send: SnapshotSend; readonly outcome: TransferOutcome };

export interface Message {
  readonly from: string;
  readonly to: string;
  /** What it says; its first word is its kind. */
  readonly text: string;
  readonly payload: Payload;
}

/** Which messages are meant: `n1->n2`, either side of which may be `*`, and a kind. */
export interface Selection {
  readonly link?: string | undefined;
  readonly kind?: string | undefined;
}

/** Messages under way, in the order in which they were sent. They arrive, or are lost, when the script says so. */
export class Network {
  #underWay: Message[] = [];
  readonly #cut = new Set<string>();

  get underWay(): readonly Message[] {
    return this.#underWay;
  }

  /** Returns false when the message is lost, because its link is cut. */
  send(message: Message): boolean {
    if (this.#cut.has(linkOf(message))) return false;
    this.#underWay.push(message);
    return true;
  }

  take(isMeant: (message: Message) => boolean): Message[] {
    const taken = this.#underWay.filter(isMeant);
    this.#underWay = this.#underWay.filter((message) => !taken.includes(message));
    return taken;
  }

  /** What is sent over these links from now on is lost. */
  cut(links: readonly string[]): void {
    for (const link of links) this.#cut.add(link);
  }

  heal(): void {
    this.#cut.clear();
  }
}

export function linkOf({ from, to }: Pick<Message, "from" | "to">): string {
  return `${from}->${to}`;
}

export function isSelected(message: Message, { link, kind }: Selection): boolean {
  if (kind !== undefined && message.text.split(" ")[0] !== kind) return false;
  if (link === undefined) return true;
  const [from, to] = link.split("->");
  return (from === "*" || from === message.from) && (to === "*" || to === message.to);
}
