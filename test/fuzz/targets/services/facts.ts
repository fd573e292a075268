import type { DescField } from "@bufbuild/protobuf";
import type { Random } from "../../../support/random.js";
import type { Hints } from "../../generate/messages.js";
import { anyBytes } from "../../generate/values.js";
import type { FuzzedCluster } from "../../nodes/cluster.js";
import { keyValueHints } from "../decoders/commands.js";

/** What messages must say to get past the first checks. */
export interface Facts {
  readonly clusterId: string;
  readonly incarnations: ReadonlyMap<string, Uint8Array>;
  readonly term: bigint;
  readonly leaderId: string;
  readonly commitIndex: bigint;
  readonly lastIndex: bigint;
}

/** Keys with this prefix are written once, and must stay as they are. */
export const GUARDED = "guarded/";

/** Learners that the fuzz may add carry these names; the harness removes them. */
export const FUZZ_NODES = ["fz1", "fz2"] as const;

export async function factsOf(cluster: FuzzedCluster): Promise<Facts> {
  const statuses = await cluster.statuses();
  const newest = statuses.reduce((best, each) => (each.term > best.term ? each : best));
  return {
    clusterId: newest.clusterId,
    incarnations: new Map(statuses.map(({ nodeId, incarnation }) => [nodeId, incarnation])),
    term: newest.term,
    leaderId: newest.leaderId,
    commitIndex: newest.commitIndex,
    lastIndex: newest.lastLogIndex,
  };
}

/** Terms that a message may name above the present one; see harmless.ts. */
export const TERM_STEPS = 4n;

/** Draws values that belong to this cluster. `receiver`: the node that is called. */
export function hintsFor(facts: Facts, receiver: string): Hints {
  const names = [...facts.incarnations.keys()];
  return (field, random) => {
    const own = clusterHint(field, random, facts, receiver, names);
    return own ?? keyValueHints(field, random);
  };
}

function clusterHint(
  field: DescField,
  random: Random,
  facts: Facts,
  receiver: string,
  names: readonly string[],
): ReturnType<Hints> {
  switch (field.name) {
    case "protocol_version":
      return 2;
    case "cluster_id":
      return random.oneIn(12) ? "" : facts.clusterId;
    case "receiver_id":
    case "receiver_name":
      return receiver;
    case "receiver_incarnation":
      return facts.incarnations.get(receiver);
    case "sender_id":
    case "leader_id":
    case "candidate_id":
    case "forwarded_by":
      return random.oneIn(6) ? "n9" : (names.find((name) => name !== receiver) ?? receiver);
    case "sender_incarnation":
      return random.oneIn(4)
        ? anyBytes(random, 16)
        : facts.incarnations.get(names.find((name) => name !== receiver) ?? receiver);
    case "incarnation":
    case "founder_incarnation":
      return Buffer.alloc(16, random.whole(1, 3));
    case "name":
    case "node_id":
      return random.oneIn(3) ? random.pick(FUZZ_NODES) : random.pick([...names, "n9", ""]);
    case "address":
      return `127.0.0.1:${random.pick([1, 2, 9])}`;
    case "term":
    case "prev_log_term":
    case "last_log_term":
    case "snapshot_term":
      return oneOf(random, [0n, 1n, facts.term - 1n, facts.term, facts.term, facts.term + TERM_STEPS]);
    case "index":
    case "prev_log_index":
    case "last_log_index":
    case "leader_commit":
    case "min_applied_index":
    case "start_index":
    case "conflict_index":
      return oneOf(random, [0n, 1n, facts.commitIndex, facts.lastIndex, facts.lastIndex + 1n, 2n ** 40n]);
    case "round":
      return BigInt(random.whole(0, 9));
    case "ingress":
      return 1n;
    case "service":
    case "file_containing_symbol":
    case "list_services":
      return random.pick(["", "cairn.v1.KeyValueService", "grpc.health.v1.Health", "cairn.v1.Nothing"]);
    case "progress_ms":
      return random.pick([0, 1, 100, 1_000]);
    default:
      return undefined;
  }
}

function oneOf(random: Random, values: readonly bigint[]): bigint {
  const value = random.pick(values);
  return value < 0n ? 0n : value;
}
