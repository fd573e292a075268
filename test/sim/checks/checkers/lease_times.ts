import { fromBinary } from "@bufbuild/protobuf";
import { CommandOutcome, type CommandResult, CommandSchema } from "../../../../gen/cairn/v1/storage_pb.js";
import type { ApplyResult } from "../../../../src/machine/state_machine.js";
import type { Entry } from "../../../../src/raft/types.js";
import { getOrAdd } from "../../world/maps.js";
import type { RunningNode, SimNode } from "../../world/node.js";
import { type Checker, demand } from "./checker.js";

/** What a process has applied, by its machine's clock. */
interface Seen {
  /** When it applied the first entry of a term. */
  readonly terms: Map<number, number>;
  /** When it applied the grant or the newest keep-alive of a lease. */
  readonly leases: Map<bigint, number>;
}

/**
 * No lease ends before its time: a leader decides only when, by its own clock, the whole time to live has passed since it applied the newest
 * grant or keep-alive, and since it applied an entry of its own term.
 */
export class LeaseTimes implements Checker {
  readonly #seen = new Map<SimNode, Seen>();

  ended(place: SimNode): void {
    this.#seen.delete(place);
  }

  applied(place: SimNode, entries: readonly Entry[], results: readonly ApplyResult<CommandResult>[]): void {
    const { now } = place.clock;
    const { terms, leases } = getOrAdd(this.#seen, place, () => ({ terms: new Map(), leases: new Map() }));
    entries.forEach(({ term, type, data }, at) => {
      if (!terms.has(term)) terms.set(term, now);
      if (type !== "command") return;
      const { operation } = fromBinary(CommandSchema, data);
      const result = results[at]!.result!;
      if (operation.case === "leaseGrant" && result.outcome === CommandOutcome.OK) leases.set(result.index, now);
      if (operation.case === "leaseKeepAlive") for (const { leaseId } of result.leases) leases.set(leaseId, now);
    });
  }

  /** A leader is about to propose this. */
  decided(place: SimNode, { raft, machine }: RunningNode, data: Uint8Array): void {
    const { operation } = fromBinary(CommandSchema, data);
    if (operation.case !== "leaseExpire") return;
    const seen = this.#seen.get(place);
    const { term } = raft;
    const leadsSince = seen?.terms.get(term);
    const { now } = place.clock;
    demand(leadsSince !== undefined, "a leader ends leases when it has applied an entry of its own term", {
      node: place.id,
      term,
      applied: machine.appliedIndex,
    });
    for (const { leaseId } of operation.value.leases) {
      const since = Math.max(leadsSince, seen!.leases.get(leaseId) ?? 0);
      const ttlMs = machine.lease(Number(leaseId))?.ttlMs ?? 0;
      // Sums of fractions of a millisecond are not exact.
      demand(now - since >= ttlMs - 0.001, "a leader gives each lease its whole time", {
        node: place.id,
        term,
        lease: Number(leaseId),
        ttlMs,
        had: now - since,
      });
    }
  }
}
