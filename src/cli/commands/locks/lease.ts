import { Command } from "commander";
import { hasCode } from "../../../base/errors.js";
import { limits } from "../../../base/limits.js";
import type { CairnClient, LeaseInfo } from "../../../client.js";
import { wholeNumber } from "../../options/options.js";
import { exitCodes } from "../../output/exit_codes.js";
import { print } from "../../output/output.js";
import { no, report } from "../../output/report.js";
import { table } from "../../output/table.js";
import { type Common, common, withClient } from "../kv/common.js";
import { leaseTtl, untilSignalOrLost } from "./common.js";

interface TtlFlags extends Common {
  readonly keys?: true;
}

/** Defines `cairn lease`, which makes, keeps and ends leases. */
export function leaseCommand(): Command {
  return new Command("lease")
    .description("Leases: keys that are attached to one (cairn kv put --lease) are removed when it ends.")
    .addCommand(
      leaseSubcommand("grant", "Make a lease, and print its id. It ends when its time is over.")
        .argument("<ttl-ms>", "time to live in milliseconds: 1,000 to a week", leaseTtl)
        .action((ttlMs: number, flags: Common) => withClient(flags, (client) => grant(client, ttlMs, flags))),
    )
    .addCommand(
      onLease("keep", "Keep a lease alive until SIGINT or SIGTERM. Exit code 3 when there is no such lease.").action(
        (id: number, flags: Common) => withClient(flags, (client) => orNo(keep(client, id, flags))),
      ),
    )
    .addCommand(
      onLease("revoke", "End a lease, and remove its keys. Exit code 3 when there is no such lease.").action(
        (id: number, flags: Common) => withClient(flags, (client) => orNo(revoke(client, id, flags))),
      ),
    )
    .addCommand(
      onLease("ttl", "Print the time that a lease has left. Exit code 3 when there is no such lease.")
        .option("--keys", "also print its keys, a line each")
        .action((id: number, flags: TtlFlags) => withClient(flags, (client) => orNo(ttl(client, id, flags)))),
    )
    .addCommand(
      leaseSubcommand("list", "Print all leases.").action((flags: Common) =>
        withClient(flags, (client) => list(client, flags)),
      ),
    );
}

function leaseSubcommand(name: string, description: string): Command {
  return common(name, description);
}

function onLease(name: string, description: string): Command {
  return leaseSubcommand(name, description).argument("<id>", "the lease", wholeNumber(1, limits.indexMax));
}

async function orNo(result: Promise<number>): Promise<number> {
  try {
    return await result;
  } catch (error) {
    if (hasCode(error, "LEASE_NOT_FOUND")) return no("LEASE_NOT_FOUND", error.text);
    throw error;
  }
}

async function grant(client: CairnClient, ttlMs: number, { json }: Common): Promise<number> {
  const { id } = await client.leases.grant({ ttlMs });
  await print(json ? `${JSON.stringify({ id, ttlMs })}\n` : `${id}\n`);
  return exitCodes.ok;
}

async function keep(client: CairnClient, id: number, { json }: Common): Promise<number> {
  const lease = await client.leases.attach(id);
  await lease.keepAlive();
  const { ttlMs } = lease;
  const ended = untilSignalOrLost(lease);
  await print(json ? `${JSON.stringify({ event: "kept", id, ttlMs })}\n` : `lease ${id} is kept alive\n`);
  const end = await ended;
  return end instanceof Error ? report(end) : exitCodes.ok;
}

async function revoke(client: CairnClient, id: number, { json }: Common): Promise<number> {
  const deleted = await client.leases.revoke(id);
  await print(json ? `${JSON.stringify({ id, deleted })}\n` : `deleted ${deleted}\n`);
  return exitCodes.ok;
}

async function ttl(client: CairnClient, leaseId: number, { json, keys: withKeys }: TtlFlags): Promise<number> {
  const { keys, ...lease } = await client.leases.timeToLive(leaseId, { keys: withKeys });
  const names = keys.map((key) => Buffer.from(key).toString("utf8"));
  if (json) await print(`${JSON.stringify({ ...lease, ...(withKeys && { keys: names }) })}\n`);
  else await print([`${lease.remainingMs} ms of ${lease.ttlMs} ms, ${lease.keyCount} keys`, ...names, ""].join("\n"));
  return exitCodes.ok;
}

async function list(client: CairnClient, { json }: Common): Promise<number> {
  const leases = await client.leases.list();
  if (json) for (const lease of leases) await print(`${JSON.stringify(lease)}\n`);
  else await print(`${table(["LEASE", "TTL MS", "LEFT MS", "KEYS"], leases.map(rowOf))}\n`);
  return exitCodes.ok;
}

function rowOf({ id, ttlMs, remainingMs, keyCount }: LeaseInfo): string[] {
  return [id, ttlMs, remainingMs, keyCount].map(String);
}
