import { type KeepAliveResponse, LeaseService, type LeaseState } from "../../../gen/cairn/v1/lease_pb.js";
import { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import type { ChannelPool } from "../../rpc/channel_pool.js";
import type { BidiStream, SharedChannel } from "../../rpc/client.js";
import type { Clock } from "../../system/clock.js";
import { hintOf, LeaderSearch } from "../leader_search.js";
import { afterAwake } from "../patient_timer.js";
import { keepAliveMs } from "./timing.js";

/** A lease that a {@link ClientLeaseKeeper} keeps alive. */
export interface KeptLease {
  readonly leaseId: number;
  readonly ttlMs: number;
  /**
   * The keeper pauses while the owner's event loop has been blocked for longer than this, in ms.
   */
  readonly maxBlockedMs: number;
  /** A keep-alive that was sent at this time of the keeper's clock is durable on a majority. */
  kept(sentAt: number): void;
  /** The lease does not exist, or has ended. The keeper has dropped it. */
  gone(): void;
}

export interface ClientLeaseKeeperOptions {
  readonly endpoints: readonly string[];
  readonly channels: ChannelPool;
  readonly clock: Clock;
  readonly random: () => number;
  /** Returns how long the owner's event loop has been blocked, in ms. */
  readonly blockedMs: () => number;
}

interface KeptStanding extends KeptLease {
  /** When the next keep-alive is due. */
  dueAt: number;
  /** The request that has the lease and is not answered yet. */
  request: KeepAliveBatch | undefined;
}

interface KeepAliveBatch {
  readonly leases: readonly KeptStanding[];
  readonly sentAt: number;
  readonly cancelTimer: () => void;
}

/**
 * Keeps leases alive over one stream to any member of the cluster. When the stream ends, or an
 * answer is late, it opens another one, to the next member, and sends what was not answered again.
 */
export class ClientLeaseKeeper {
  readonly #leases = new Map<number, KeptStanding>();
  readonly #search: LeaderSearch;
  #link: KeepAliveLink | undefined;
  #cancelOpening: (() => void) | undefined;
  #cancelTimer: (() => void) | undefined;

  constructor(private readonly options: ClientLeaseKeeperOptions) {
    this.#search = new LeaderSearch(options.endpoints, options.random);
  }

  /** Begins to keep a lease alive, at once. Returns a function that ends it. */
  add(lease: KeptLease): () => void {
    const standing: KeptStanding = {
      ...lease,
      kept: (sentAt) => lease.kept(sentAt),
      gone: () => lease.gone(),
      dueAt: this.options.clock.now(),
      request: undefined,
    };
    this.#leases.set(lease.leaseId, standing);
    this.#look();
    return () => {
      if (this.#leases.get(lease.leaseId) === standing) this.#leases.delete(lease.leaseId);
      this.#look();
    };
  }

  /** Keeps nothing from now on, and ends the stream. May be called more than once. */
  close(): void {
    this.#leases.clear();
    this.#look();
  }

  /** Sends the keep-alives that are due, and sets the timer for the next. */
  #look(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    if (this.#leases.size === 0) {
      this.#rest();
      return;
    }
    const now = this.options.clock.now();
    const due = this.#dueAt(now);
    if (due.length > 0) this.#send(due, now);
    const waiting = [...this.#leases.values()].filter(({ request }) => request === undefined);
    // Without a link, the opening of one looks again.
    if (waiting.length === 0 || this.#cancelOpening !== undefined) return;
    const next = waiting.reduce((least, { dueAt }) => Math.min(least, dueAt), Number.POSITIVE_INFINITY);
    this.#cancelTimer = this.options.clock.after(Math.max(next - now, 1), () => this.#look(), true);
  }

  /** Returns the leases to keep alive now: those that are due soon go with those that are due. */
  #dueAt(now: number): KeptStanding[] {
    const blockedMs = this.options.blockedMs();
    const waiting = [...this.#leases.values()].filter(({ request }) => request === undefined);
    if (!waiting.some(({ dueAt }) => dueAt <= now)) return [];
    return waiting.filter((lease) => {
      const intervalMs = keepAliveMs(lease.ttlMs);
      if (lease.dueAt > now + intervalMs / 4) return false;
      if (blockedMs <= lease.maxBlockedMs) return true;
      lease.dueAt = now + intervalMs / 4;
      return false;
    });
  }

  #send(due: readonly KeptStanding[], now: number): void {
    const link = this.#link;
    if (link === undefined) {
      this.#connect();
      return;
    }
    for (let from = 0; from < due.length && this.#link === link; from += limits.keepAliveLeases) {
      const leases = due.slice(from, from + limits.keepAliveLeases);
      const answerMs = leases.reduce(
        (least, { ttlMs }) => Math.min(least, keepAliveMs(ttlMs)),
        Number.POSITIVE_INFINITY,
      );
      const late = () => this.#lost(link, new CairnError("TIMEOUT", `no answer in ${answerMs} ms`));
      const cancelTimer = afterAwake(this.options.clock, answerMs, late, { isBackground: true });
      const request: KeepAliveBatch = { leases, sentAt: now, cancelTimer };
      for (const lease of leases) lease.request = request;
      link.send(request);
    }
  }

  #connect(): void {
    if (this.#cancelOpening !== undefined) return;
    const { address, pauseMs } = this.#search.next();
    const open = () => {
      this.#cancelOpening = undefined;
      this.#open(address);
    };
    this.#cancelOpening = this.options.clock.after(pauseMs, open, true);
  }

  #open(address: string): void {
    try {
      const link: KeepAliveLink = new KeepAliveLink(this.options.channels.get(address), {
        answered: (request, states) => this.#answered(link, request, states),
        ended: (error) => this.#lost(link, error),
      });
      this.#link = link;
    } catch {
      // A node has named an address that is not valid.
      this.#search.unreachable(address);
      this.#connect();
      return;
    }
    this.#look();
  }

  #answered(link: KeepAliveLink, { leases, sentAt }: KeepAliveBatch, states: readonly LeaseState[]): void {
    this.#search.found(link.address);
    for (const [at, lease] of leases.entries()) {
      lease.request = undefined;
      lease.dueAt = sentAt + keepAliveMs(lease.ttlMs);
      if (this.#leases.get(lease.leaseId) !== lease) continue;
      if (states[at]?.found) {
        lease.kept(sentAt);
        continue;
      }
      this.#leases.delete(lease.leaseId);
      lease.gone();
    }
    this.#look();
  }

  /** The stream has ended, or is of no use: its requests are sent again over another. */
  #lost(link: KeepAliveLink, error: CairnError): void {
    if (this.#link !== link) return;
    this.#link = undefined;
    for (const { leases } of link.close()) {
      for (const lease of leases) lease.request = undefined;
    }
    if (error.code === "NOT_LEADER") this.#search.notLeader(link.address, hintOf(error));
    else this.#search.unreachable(link.address);
    this.#look();
  }

  /** Nothing is to be kept. */
  #rest(): void {
    this.#cancelOpening?.();
    this.#cancelOpening = undefined;
    const link = this.#link;
    this.#link = undefined;
    link?.close();
  }
}

interface KeepAliveEvents {
  answered(request: KeepAliveBatch, states: readonly LeaseState[]): void;
  ended(error: CairnError): void;
}

/** One keep-alive stream. Its requests are answered in their order. */
class KeepAliveLink {
  readonly #stream: BidiStream<{ leaseIds: bigint[] }, KeepAliveResponse>;
  /** Requests that are not answered yet. */
  #open: KeepAliveBatch[] = [];
  #isClosed = false;

  constructor(
    private readonly channel: SharedChannel,
    private readonly events: KeepAliveEvents,
  ) {
    this.#stream = channel.client(LeaseService).keepAlive();
    void this.#read();
  }

  get address(): string {
    return this.channel.address;
  }

  send(request: KeepAliveBatch): void {
    this.#open.push(request);
    // A failure ends the reading, too.
    this.#stream.send({ leaseIds: request.leases.map(({ leaseId }) => BigInt(leaseId)) }).catch(() => {});
  }

  /** Ends the stream. Returns the requests that were not answered. */
  close(): readonly KeepAliveBatch[] {
    this.#isClosed = true;
    const open = this.#open;
    this.#open = [];
    for (const { cancelTimer } of open) cancelTimer();
    this.#stream.cancel();
    return open;
  }

  async #read(): Promise<void> {
    let error = new CairnError("STOPPED", "the node has ended the stream");
    try {
      for await (const { leases } of this.#stream.responses) {
        if (this.#isClosed) return;
        const request = this.#open.shift();
        if (request === undefined) throw new CairnError("INTERNAL", "an answer came without a request");
        request.cancelTimer();
        this.events.answered(request, leases);
      }
    } catch (failure) {
      error = CairnError.from(failure);
    }
    if (!this.#isClosed) this.events.ended(error);
  }
}
