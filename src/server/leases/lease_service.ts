import { setMaxListeners } from "node:events";
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type KeepAliveRequest,
  type KeepAliveResponseSchema,
  LeaseService,
  type LeaseStateSchema,
  type ListLeasesRequest,
  type ListLeasesResponseSchema,
} from "../../../gen/cairn/v1/lease_pb.js";
import type { CancelSignal } from "../../base/cancel_signal.js";
import { CairnError, hasCode } from "../../base/errors.js";
import { problemError } from "../../base/key_checks.js";
import { limits } from "../../base/limits.js";
import { problemOfKeptLeases, problemOfLeaseId } from "../../machine/kv/leases/lease_problem.js";
import type { StoredLease } from "../../machine/kv/leases/lease_store.js";
import type { CallContext } from "../../rpc/call_context.js";
import { toCount, toIndex } from "../../rpc/message_counters.js";
import { orderedAnswers } from "../../rpc/ordered.js";
import type { CallerAccess, KeyRole } from "../../rpc/security/caller_access.js";
import type { MemberCredentials } from "../../rpc/security/member_credentials.js";
import { type AddServiceOptions, addService, type ServiceImplementation } from "../../rpc/server.js";
import type { Clock } from "../../system/clock.js";
import { type CheckedCall, hasLease, requireLease } from "../access/checks.js";
import { MEMBER_ITSELF, metadataKeys } from "../access/metadata_keys.js";
import { Forwarding, nameToVouchFor } from "../forwarding.js";
import { type CommandInit, execute, failureOf, headerOf } from "../kv/key_value_calls.js";
import type { KeyValueNode } from "../kv/key_value_node.js";
import { Places } from "../places.js";
import { ForwardedKeepAlives } from "./forwarded_keep_alives.js";
import { KeepAlives, type KeptLeases } from "./keep_alives.js";
import { LeaseKeeper } from "./lease_keeper.js";

const NONE_KEPT: KeptLeases = new Map();

type LeaseStateInit = MessageInitShape<typeof LeaseStateSchema>;

/** Serves the leases of a node: at the leader itself, at the others by passing calls on to it. */
export class Leases {
  readonly #keeper: LeaseKeeper;
  readonly #keepAlives: KeepAlives;
  readonly #forwarding: Forwarding<typeof LeaseService>;
  readonly #forwarded: ForwardedKeepAlives;
  readonly #stopping = new AbortController();
  readonly #keepAlivePlaces = new Places("keepAliveStreams", "streams of keep-alives");

  constructor(
    private readonly node: KeyValueNode,
    clock: Clock,
    members?: MemberCredentials | undefined,
  ) {
    this.#keeper = new LeaseKeeper(node, clock);
    this.#keepAlives = new KeepAlives(node, this.#keeper);
    this.#forwarding = new Forwarding(node, LeaseService, { members });
    this.#forwarded = new ForwardedKeepAlives(clock);
    // Every stream of keep-alives listens to it, and Node takes more than ten listeners for a leak.
    setMaxListeners(0, this.#stopping.signal);
  }

  /** Adds LeaseService to a server, and begins to measure the times of leases. */
  addTo(server: Parameters<typeof addService>[0], options: AddServiceOptions): void {
    addService(server, LeaseService, this.#methods(), { ...options, stopping: this.#stopping.signal });
    this.#keeper.start();
  }

  /** Ends the streams of keep-alives, after the requests that have come. No further lease ends. */
  stop(): void {
    this.#keeper.stop();
    this.#stopping.abort(new CairnError("STOPPED", "the node is stopping"));
  }

  /** Ends the calls under way at the leader. */
  close(): void {
    this.#keeper.stop();
    this.#forwarding.close();
  }

  #methods(): ServiceImplementation<typeof LeaseService> {
    return {
      grant: (request, context) =>
        this.#forwarding.once(
          context,
          async () => {
            const { ttlMs, requestId } = request;
            const { index } = await this.#write({ case: "leaseGrant", value: { ttlMs } }, requestId, context.cancel);
            this.#keeper.granted(Number(index));
            return { header: headerOf(this.node), leaseId: index, ttlMs };
          },
          (leader, settings) => leader.grant(request, settings),
        ),

      keepAlive: (requests, context) =>
        this.#keepAlivePlaces.serve(() =>
          orderedAnswers(requests, (request) => this.#keep(request, context), limits.keepAlivesInFlight),
        ),

      revoke: (request, context) =>
        this.#forwarding.once(
          context,
          async () => {
            const { leaseId, requestId } = request;
            await this.#requireLease(context, "writer", checkedLease(leaseId));
            const { deleted } = await this.#write(
              { case: "leaseRevoke", value: { leaseId } },
              requestId,
              context.cancel,
            );
            this.#keeper.ended(Number(leaseId));
            return { header: headerOf(this.node), deleted };
          },
          (leader, settings) => leader.revoke(request, settings),
        ),

      timeToLive: (request, context) =>
        this.#forwarding.once(
          context,
          async () => {
            const id = checkedLease(request.leaseId);
            await this.node.linearizableRead(context.cancel);
            const lease = this.node.machine.lease(id);
            if (lease === undefined) throw leaseNotFound(id);
            requireLease(context, "reader", id, this.node.machine);
            const keys = request.keys ? this.node.machine.leaseKeys(id) : [];
            return { header: headerOf(this.node), lease: this.#stateOf(lease), keys };
          },
          (leader, settings) => leader.timeToLive(request, settings),
        ),

      listLeases: (request, context) =>
        this.#forwarding.stream(
          context,
          () => this.#list(request, context.signal),
          (leader, settings) => leader.listLeases(request, settings),
        ),
    };
  }

  /** Carries out a command about leases. */
  async #write(
    operation: Extract<NonNullable<CommandInit["operation"]>, { case: "leaseGrant" | "leaseRevoke" }>,
    requestId: CommandInit["requestId"],
    cancel: CancelSignal,
  ) {
    const result = await execute(this.node, { operation, ...(requestId !== undefined && { requestId }) }, cancel);
    const problem = failureOf(result);
    if (problem !== undefined) throw problem;
    return result;
  }

  #keep(
    { leaseIds, caller }: KeepAliveRequest,
    context: CallContext,
  ): Promise<MessageInitShape<typeof KeepAliveResponseSchema>> {
    checkLeases(leaseIds);
    const { path, peer } = context;
    const access = callerOf(context, caller);
    // One caller that is no longer known must not end the stream for the others of a member.
    if (access === "unknown") {
      return Promise.resolve({ header: headerOf(this.node), leases: leaseIds.map((leaseId) => ({ leaseId })) });
    }
    const checked = { access, path, peer };
    return this.#forwarding.once(
      context,
      async () => {
        const own = leaseIds.filter((leaseId) => this.#mayKeep(checked, Number(leaseId)));
        const kept = own.length === 0 ? NONE_KEPT : await this.#keepAlives.keep(own);
        const leases = leaseIds.map((leaseId): LeaseStateInit => {
          const record = kept.get(leaseId);
          if (record === undefined) return { leaseId };
          const { ttlMs, keys } = record;
          return this.#stateOf({ id: Number(leaseId), ttlMs, keys });
        });
        return { header: headerOf(this.node), leases };
      },
      (leader, { metadata }) => {
        if (access === undefined) return this.#forwarded.keep(leader, metadata, { leaseIds });
        // One stream for the requests of all callers, each of which names its own.
        const ofMember = { ...metadata, [metadataKeys.caller]: MEMBER_ITSELF };
        return this.#forwarded.keep(leader, ofMember, { leaseIds, caller: nameToVouchFor(access) });
      },
    );
  }

  /**
   * Returns whether the caller may keep a lease alive: it must be the writer of all attached keys.
   * Other leases count as not found, so that one of them does not end the stream for the rest.
   */
  #mayKeep(call: CheckedCall, leaseId: number): boolean {
    if (this.node.raft.role !== "leader" || hasLease(call, "writer", leaseId, this.node.machine)) return true;
    call.access?.refusal(call, `the role writer for all keys that are attached to lease ${leaseId}`);
    return false;
  }

  /**
   * Checks the caller's role for the keys of a lease, in a state that shows all keys that were
   * attached before the call.
   * @throws CairnError PERMISSION_DENIED; NOT_LEADER
   */
  async #requireLease(context: CallContext, role: KeyRole, leaseId: number): Promise<void> {
    if (context.access === undefined || context.access.hasAll(role)) return;
    await this.node.linearizableRead(context.cancel);
    requireLease(context, role, leaseId, this.node.machine);
  }

  async *#list(
    { after, limit }: ListLeasesRequest,
    signal: AbortSignal,
  ): AsyncGenerator<MessageInitShape<typeof ListLeasesResponseSchema>, void> {
    let last = toIndex(after, "after");
    let left = limit === 0n ? Number.POSITIVE_INFINITY : toCount(limit, "limit");
    await this.node.linearizableRead(signal);
    for (let isFirst = true; ; isFirst = false) {
      const most = Math.min(left, limits.leaseSlice);
      const leases = this.node.machine.leases(last, most);
      yield { ...(isFirst && { header: headerOf(this.node) }), leases: leases.map((lease) => this.#stateOf(lease)) };
      left -= leases.length;
      if (left === 0 || leases.length < most) return;
      last = leases.at(-1)!.id;
    }
  }

  #stateOf(lease: Pick<StoredLease, "id" | "ttlMs" | "keys">): LeaseStateInit {
    const { id, ttlMs, keys } = lease;
    const remainingMs = Math.floor(this.#keeper.remainingMs(lease));
    return { leaseId: BigInt(id), found: true, ttlMs, remainingMs, keyCount: keys };
  }
}

/** Returns the caller of a request: that of the stream, or one that a member names. */
function callerOf(context: CallContext, named: string): CallerAccess | "unknown" | undefined {
  const { access } = context;
  if (access?.kind !== "member") return access;
  try {
    return access.vouched(named, context);
  } catch (error) {
    if (hasCode(error, "PERMISSION_DENIED")) return "unknown";
    throw error;
  }
}

/** @throws CairnError INVALID_ARGUMENT */
function checkedLease(leaseId: bigint): number {
  const problem = problemOfLeaseId(leaseId, 1);
  if (problem !== undefined) throw problemError(problem);
  return Number(leaseId);
}

/**
 * Checks the leases of a request, which will share an entry with those of others.
 * @throws CairnError INVALID_ARGUMENT, LIMIT_EXCEEDED
 */
function checkLeases(leaseIds: readonly bigint[]): void {
  const problem = problemOfKeptLeases(leaseIds);
  if (problem !== undefined) throw problemError(problem);
}

function leaseNotFound(id: number): CairnError {
  return new CairnError("LEASE_NOT_FOUND", `lease ${id} does not exist, or has ended`);
}
