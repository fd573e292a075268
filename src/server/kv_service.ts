import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  CompareAndSetRequest,
  CompareAndSetResponseSchema,
  KeyValueSchema,
  KeyValueService,
  RangeResponseSchema,
  ResponseHeaderSchema,
} from "../../gen/cairn/v1/kv_pb.js";
import { CommandOutcome, type CommandResult, type CommandSchema } from "../../gen/cairn/v1/storage_pb.js";
import { limits } from "../core/limits.js";
import { CairnError } from "../errors.js";
import { checkKey, encodeCommand } from "../machine/command.js";
import type { KeyRecord } from "../machine/evaluate.js";
import type { KeyEntry } from "../machine/key_value_machine.js";
import type { ServiceImplementation } from "../transport/bridge_server.js";
import { toNumber } from "./convert.js";
import type { KeyValueNode } from "./key_value_node.js";

type Header = MessageInitShape<typeof ResponseHeaderSchema>;
type KeyValue = MessageInitShape<typeof KeyValueSchema>;

/** The clients' service of a node. */
export function keyValueService(node: KeyValueNode): ServiceImplementation<typeof KeyValueService> {
  /** Carries a command out through consensus. */
  const execute = async (command: MessageInitShape<typeof CommandSchema>, signal: AbortSignal) => {
    const { result } = await node.propose(encodeCommand(command), signal);
    if (result.outcome === CommandOutcome.RETRY_TOO_OLD) {
      throw new CairnError(
        "OUTCOME_UNKNOWN",
        "the answer to this request_id is forgotten: it was carried out before, or acknowledged. Use a new sequence for a new request",
      );
    }
    return result;
  };

  return {
    async get({ key, stale, minAppliedIndex }, { signal }) {
      checkKey(key);
      await readable(node, stale, minAppliedIndex, signal);
      const record = node.machine.get(key);
      return { header: headerOf(node), ...(record !== undefined && { kv: keyValue(key, record) }) };
    },

    async put({ key, value, requestId }, { signal }) {
      const operation = { case: "put", value: { key, value } } as const;
      const result = await execute({ operation, ...(requestId !== undefined && { requestId }) }, signal);
      return { header: headerOf(node), version: result.index };
    },

    async delete({ key, requestId }, { signal }) {
      const operation = { case: "delete", value: { key } } as const;
      const result = await execute({ operation, ...(requestId !== undefined && { requestId }) }, signal);
      return { header: headerOf(node), deleted: result.outcome === CommandOutcome.OK };
    },

    async compareAndSet(request, { signal }) {
      const { key, expected, newValue, createIfMissing, requestId } = request;
      const operation = { case: "compareAndSet", value: { key, expected, newValue, createIfMissing } } as const;
      const result = await execute({ operation, ...(requestId !== undefined && { requestId }) }, signal);
      return compareAndSetResponse(request, result, node);
    },

    async *range({ prefix, limit, stale, minAppliedIndex }, { signal }) {
      await readable(node, stale, minAppliedIndex, signal);
      const most = limit === 0n ? Number.MAX_SAFE_INTEGER - 1 : toNumber(limit, "limit");
      const header = headerOf(node);
      // One key more than asked for tells whether there are more.
      const entries = node.machine.range({ prefix, limit: most + 1 });
      try {
        yield* inParts(entries, most, header);
      } finally {
        entries.close();
      }
    },
  };
}

function compareAndSetResponse(
  { key }: CompareAndSetRequest,
  result: CommandResult,
  node: KeyValueNode,
): MessageInitShape<typeof CompareAndSetResponseSchema> {
  const header = headerOf(node);
  if (result.outcome === CommandOutcome.OK) return { header, swapped: true, version: result.index };
  if (result.outcome === CommandOutcome.NOT_FOUND) return { header, swapped: false };
  return { header, swapped: false, current: { key, value: result.value, version: result.version } };
}

/** Returns when the node's state may be read. */
async function readable(
  node: KeyValueNode,
  stale: boolean,
  minAppliedIndex: bigint,
  signal: AbortSignal,
): Promise<void> {
  if (stale) await node.waitApplied(toNumber(minAppliedIndex, "min_applied_index"), signal);
  else await node.linearizableRead(signal);
}

/** At least one part; each but the last about as large as a chunk. */
function* inParts(
  entries: Iterable<KeyEntry>,
  most: number,
  header: Header,
): Generator<MessageInitShape<typeof RangeResponseSchema>> {
  let first: { header?: Header } = { header };
  let kvs: KeyValue[] = [];
  let bytes = 0;
  let count = 0;
  for (const entry of entries) {
    if (count === most) {
      yield { ...first, kvs, more: true };
      return;
    }
    count++;
    kvs.push(keyValue(entry.key, entry));
    bytes += entry.key.byteLength + entry.value.byteLength;
    if (bytes < limits.rangePartBytes) continue;
    yield { ...first, kvs };
    first = {};
    kvs = [];
    bytes = 0;
  }
  yield { ...first, kvs, more: false };
}

function keyValue(key: Uint8Array, record: KeyRecord): KeyValue {
  const { value, version, createVersion } = record;
  return { key, value, version: BigInt(version), createVersion: BigInt(createVersion) };
}

function headerOf(node: KeyValueNode): Header {
  return {
    clusterId: node.clusterId,
    nodeId: node.id,
    term: BigInt(node.raft.term),
    appliedIndex: BigInt(node.machine.appliedIndex),
    leaderId: node.raft.leader ?? "",
  };
}
