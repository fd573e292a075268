import { LeaseService, type LeaseState } from "../../../gen/cairn/v1/lease_pb.js";
import { checkFlag, checkNumber, checkObject, checkWholeNumber, invalid } from "../../base/arguments.js";
import { CairnError, hasCode } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import type { CallSettings } from "../../rpc/channel.js";
import type { SharedChannel } from "../../rpc/client.js";
import type { Clock } from "../../system/clock.js";
import type { AnyNode } from "../any_node.js";
import type { CallOptions } from "../options.js";
import type { LeaseKeeping } from "./keeping.js";
import { LeaseHandle } from "./lease.js";
import { DEFAULT_MAX_BLOCKED_MS } from "./timing.js";

/** Approximate number of bytes of a call about leases. */
const CALL_BYTES = 64;

/** Options of a lease that this process keeps alive. */
export interface KeepOptions extends CallOptions {
  /**
   * A thread of its own keeps leases alive, so that a blocked event loop does not end them. When
   * the loop has been blocked for longer than this, in ms, the thread stops, and the lease ends
   * when its time to live is over: another process then takes over from one that hangs. Infinity:
   * never. Default 60,000.
   */
  readonly maxBlockedMs?: number | undefined;
}

export interface GrantOptions extends KeepOptions {
  /** Time to live after the grant or the newest keep-alive, in ms: 1,000 to a week. */
  readonly ttlMs: number;
}

export interface TimeToLiveOptions extends CallOptions {
  /** Also report the keys that are attached to the lease. Default false. */
  readonly keys?: boolean | undefined;
}

/** A lease, as the leader sees it. */
export interface LeaseInfo {
  readonly id: number;
  readonly ttlMs: number;
  /** Time left, in ms; 0: the lease is about to end. */
  readonly remainingMs: number;
  /** Number of keys that are attached to it. */
  readonly keyCount: number;
}

/** A lease with its keys. */
export interface LeaseWithKeys extends LeaseInfo {
  /** In the order of their bytes; empty unless they were asked for. */
  readonly keys: readonly Uint8Array[];
}

export interface LeasesOptions {
  readonly nodes: AnyNode;
  readonly clock: Clock;
  /** Checks the options of a call. @throws CairnError */
  readonly limitsOf: (options: CallOptions) => CallOptions & { readonly timeoutMs: number };
  /** Makes the part that keeps leases alive, when the first lease needs it. */
  readonly makeKeeping: () => LeaseKeeping;
}

/**
 * The leases of a client; {@link CairnClient.leases} returns it. One stream to the cluster keeps
 * alive all leases of a client.
 *
 * ```ts
 * const lease = await client.leases.grant({ ttlMs: 10_000 });
 * await lease.keepAlive();
 * await client.put("worker:7", "here", { lease });
 * ```
 */
export class ClientLeases {
  readonly #handles = new Set<LeaseHandle>();
  #keeping: LeaseKeeping | undefined;

  /** @internal */
  constructor(private readonly options: LeasesOptions) {}

  /**
   * Makes a lease. It lives for `ttlMs`, unless {@link LeaseHandle.keepAlive} is called.
   * @throws CairnError LIMIT_EXCEEDED when the cluster has too many leases
   */
  async grant(options: GrantOptions): Promise<LeaseHandle> {
    const { ttlMs } = checkObject("options", options);
    checkTtl(ttlMs);
    const maxBlockedMs = checkMaxBlocked(options.maxBlockedMs);
    const { leaseId, sentAt } = await this.#ask(options, async (channel, settings) => {
      const sentAt = this.options.clock.now();
      // A grant whose answer is lost leaves a lease that nobody keeps.
      const { leaseId } = await channel.client(LeaseService).grant({ ttlMs }, settings);
      return { leaseId: Number(leaseId), sentAt };
    });
    return this.#handle({ leaseId, ttlMs, maxBlockedMs, sentAt });
  }

  /**
   * Keeps a lease that exists alive once, and returns a handle of it, to keep it alive from here.
   * @throws CairnError LEASE_NOT_FOUND
   */
  async attach(leaseId: number, options: KeepOptions = {}): Promise<LeaseHandle> {
    const maxBlockedMs = checkMaxBlocked(checkObject("options", options).maxBlockedMs);
    checkWholeNumber("the lease's id", leaseId, 1);
    const { state, sentAt } = await this.#ask(options, async (channel, settings) => {
      const sentAt = this.options.clock.now();
      return { state: await keptOnce(channel, leaseId, settings), sentAt };
    });
    if (!state?.found) throw noLease(leaseId);
    return this.#handle({ leaseId, ttlMs: state.ttlMs, maxBlockedMs, sentAt });
  }

  /**
   * Ends a lease, and removes its keys at one place in the log. Resolves with their number.
   * @throws CairnError LEASE_NOT_FOUND when it does not exist, or has ended
   */
  async revoke(leaseId: number, options: CallOptions = {}): Promise<number> {
    checkWholeNumber("the lease's id", leaseId, 1);
    return this.#ask(options, async (channel, settings) => {
      const { deleted } = await channel.client(LeaseService).revoke({ leaseId: BigInt(leaseId) }, settings);
      return Number(deleted);
    });
  }

  /** Returns what the leader knows of a lease. @throws CairnError LEASE_NOT_FOUND */
  async timeToLive(leaseId: number, options: TimeToLiveOptions = {}): Promise<LeaseWithKeys> {
    checkWholeNumber("the lease's id", leaseId, 1);
    const keys = checkFlag("keys", checkObject("options", options).keys);
    const answer = await this.#ask(options, (channel, settings) =>
      channel.client(LeaseService).timeToLive({ leaseId: BigInt(leaseId), keys }, settings),
    );
    if (!answer.lease?.found) throw noLease(leaseId);
    return { ...infoOf(answer.lease), keys: answer.keys.map((key) => Buffer.from(key)) };
  }

  /** Returns all leases, in ascending order of their ids. */
  async list(options: CallOptions = {}): Promise<LeaseInfo[]> {
    return this.#ask(options, async (channel, settings) => {
      const found: LeaseInfo[] = [];
      for await (const { leases } of channel.client(LeaseService).listLeases({}, settings)) {
        found.push(...leases.map(infoOf));
      }
      return found;
    });
  }

  /** Keeps no lease any more: all handles lose theirs. @internal */
  close(error: CairnError): void {
    for (const handle of [...this.#handles]) handle.abandon(error);
    this.#keeping?.close();
  }

  #handle(lease: ConstructorParameters<typeof LeaseHandle>[1]): LeaseHandle {
    const { clock, makeKeeping } = this.options;
    const handle = new LeaseHandle(
      {
        clock,
        keeping: () => {
          this.#keeping ??= makeKeeping();
          return this.#keeping;
        },
        revoke: (leaseId, options) => this.revoke(leaseId, options),
        ended: (ended) => this.#handles.delete(ended),
      },
      lease,
    );
    if (handle.isAlive) this.#handles.add(handle);
    return handle;
  }

  /**
   * Asks one node after the other. Every call about leases may be made twice, so one of unknown
   * outcome is made again.
   */
  #ask<Answer>(
    options: CallOptions,
    call: (channel: SharedChannel, settings: CallSettings) => Promise<Answer>,
  ): Promise<Answer> {
    const { nodes, limitsOf } = this.options;
    return nodes.ask(CALL_BYTES, limitsOf(options), async (channel, settings) => {
      try {
        return await call(channel, settings);
      } catch (error) {
        if (hasCode(error, "OUTCOME_UNKNOWN")) throw new CairnError("UNREACHABLE", error.text, { cause: error });
        throw error;
      }
    });
  }
}

/** Sends one keep-alive over a stream of its own. */
async function keptOnce(
  channel: SharedChannel,
  leaseId: number,
  settings: CallSettings,
): Promise<LeaseState | undefined> {
  const stream = channel.client(LeaseService).keepAlive(settings);
  // A failure ends the reading, too.
  stream.send({ leaseIds: [BigInt(leaseId)] }).catch(() => {});
  for await (const { leases } of stream.responses) return leases[0];
  throw new CairnError("UNREACHABLE", "the node has ended the stream without an answer");
}

/** @throws CairnError INVALID_ARGUMENT */
export function checkTtl(ttlMs: number): number {
  const { leaseTtlMs: least, leaseTtlMsMax: most } = limits;
  if (Number.isSafeInteger(ttlMs) && ttlMs >= least && ttlMs <= most) return ttlMs;
  throw invalid("ttlMs", `a whole number from ${least} to ${most}`, ttlMs);
}

function checkMaxBlocked(ms: number = DEFAULT_MAX_BLOCKED_MS): number {
  return checkNumber("maxBlockedMs", ms, 1, "a number from 1, or Infinity");
}

function noLease(leaseId: number): CairnError {
  return new CairnError("LEASE_NOT_FOUND", `lease ${leaseId} does not exist, or has ended`);
}

function infoOf({ leaseId, ttlMs, remainingMs, keyCount }: LeaseState): LeaseInfo {
  return { id: Number(leaseId), ttlMs, remainingMs, keyCount };
}
