import { create } from "@bufbuild/protobuf";
import {
  type Command,
  CommandOutcome,
  type CommandResult,
  CommandResultSchema,
} from "../../../../gen/cairn/v1/storage_pb.js";

/** A key as the model has it. */
export interface ModelRecord {
  readonly value: string;
  readonly version: number;
  readonly created: number;
  /** Undefined: none. */
  readonly lease: number | undefined;
}

/** Leases, told a second time and in few words: a key names its lease, and nothing else is kept. */
export class LeaseModel {
  readonly #leases = new Map<number, { readonly ttlMs: number; readonly keepAlives: number }>();
  expired = 0;

  constructor(private readonly records: Map<string, ModelRecord>) {}

  has(lease: number): boolean {
    return this.#leases.has(lease);
  }

  /** Carries a command about leases out; undefined when it is none. */
  carryOut({ operation }: Command, index: number): CommandResult | undefined {
    const result = create(CommandResultSchema, { outcome: CommandOutcome.OK, index: BigInt(index) });
    switch (operation.case) {
      case "leaseGrant":
        this.#leases.set(index, { ttlMs: operation.value.ttlMs, keepAlives: 0 });
        return result;
      case "leaseKeepAlive":
        for (const id of operation.value.leaseIds.map(Number)) {
          const lease = this.#leases.get(id);
          if (lease === undefined) continue;
          this.#leases.set(id, { ...lease, keepAlives: lease.keepAlives + 1 });
          this.#add(result, id, this.#keysOf(id).length);
        }
        return result;
      case "leaseRevoke": {
        const id = Number(operation.value.leaseId);
        if (!this.#leases.has(id)) result.outcome = CommandOutcome.LEASE_NOT_FOUND;
        else {
          result.deleted = BigInt(this.#removeKeys(id));
          this.#leases.delete(id);
        }
        return result;
      }
      case "leaseExpire":
        for (const { leaseId, keepAlives } of operation.value.leases) {
          const id = Number(leaseId);
          if (this.#leases.get(id)?.keepAlives !== Number(keepAlives)) continue;
          this.#add(result, id, this.#removeKeys(id));
          this.#leases.delete(id);
          this.expired += 1;
        }
        return result;
      default:
        return undefined;
    }
  }

  #add(result: CommandResult, id: number, keys: number): void {
    const { ttlMs, keepAlives } = this.#leases.get(id)!;
    const record = { leaseId: BigInt(id), ttlMs, keepAlives: BigInt(keepAlives), keys };
    result.leases.push(create(CommandResultSchema, { leases: [record] }).leases[0]!);
  }

  #keysOf(lease: number): string[] {
    return [...this.records].filter(([, record]) => record.lease === lease).map(([key]) => key);
  }

  #removeKeys(lease: number): number {
    const keys = this.#keysOf(lease);
    for (const key of keys) this.records.delete(key);
    return keys.length;
  }
}
