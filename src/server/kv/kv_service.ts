import type { MessageInitShape } from "@bufbuild/protobuf";
import type { GetRequest, KeyValueService, RangeRequest, RangeResponseSchema } from "../../../gen/cairn/v1/kv_pb.js";
import type { CancelSignal } from "../../base/cancel_signal.js";
import { checkKey, checkKeyStart } from "../../base/key_checks.js";
import { limits } from "../../base/limits.js";
import type { KeyEntry } from "../../machine/kv/record_store.js";
import { FollowerReads } from "../../node/requests/follower_reads.js";
import { answerWithRoom, type CallContext } from "../../rpc/call_context.js";
import type { CallSettings } from "../../rpc/channel.js";
import type { Client } from "../../rpc/client.js";
import { toCount } from "../../rpc/message_counters.js";
import type { ServiceImplementation } from "../../rpc/server.js";
import { systemClock } from "../../system/clock.js";
import type { Forwarding, LeaderAt } from "../forwarding.js";
import { ForwardStream } from "./forward_stream.js";
import type { ForwardedAnswer, ForwardedRequest } from "./forwarded_calls.js";
import {
  type CommandInit,
  execute,
  failureOf,
  getAnswer,
  type Header,
  headerOf,
  type KeyValueInit,
  keyValue,
  readable,
  type WriteMapping,
  writes,
} from "./key_value_calls.js";
import type { KeyValueNode } from "./key_value_node.js";
import type { Sessions } from "./session_service.js";

/** The unary methods of the clients' service. */
export type UnaryCalls = Required<
  Pick<ServiceImplementation<typeof KeyValueService>, "get" | "put" | "delete" | "compareAndSet" | "txn">
>;

/** The methods of the clients' service that make one call. */
export type SingleCalls = UnaryCalls & Required<Pick<ServiceImplementation<typeof KeyValueService>, "range">>;

/** Implements the clients' service of a node. */
export function keyValueService(
  calls: SingleCalls,
  sessions: Sessions,
  watches: { serve: NonNullable<ServiceImplementation<typeof KeyValueService>["watch"]> },
): ServiceImplementation<typeof KeyValueService> {
  return {
    ...calls,
    session: (requests, context) => sessions.serve(requests, context),
    watch: (request, context) => watches.serve(request, context),
  };
}

/** Implements those methods of a node: carried out here, or at the leader. */
export function singleCalls(node: KeyValueNode, forwarding: Forwarding<typeof KeyValueService>): SingleCalls {
  const forwardStream = new ForwardStream(node, forwarding);
  const followerReads = new FollowerReads(node, systemClock, (leader: LeaderAt) => forwardStream.readIndex(leader));
  /**
   * Resolves with true when this follower's state may answer a linearizable read; undefined, now or
   * later, when it may not, or this node leads.
   */
  const readableHere = (request: { readonly stale: boolean }, context: CallContext) => {
    const leader = request.stale ? undefined : forwarding.leaderFor(context);
    return leader === undefined ? undefined : followerReads.readable(leader, context.cancel);
  };
  /**
   * Passes a call on to the leader with others; else answers with `here`, or alone with `there`.
   */
  const once = <Here extends object, There extends object>(
    request: ForwardedRequest,
    context: CallContext,
    here: () => Promise<Here>,
    there: (leader: Client<typeof KeyValueService>, settings: CallSettings) => Promise<There>,
  ): Promise<Here | There> => {
    const alone = () => forwarding.once(context, here, there);
    const passed = forwardStream.ask(request, context);
    if (passed === undefined) return alone();
    return passed.then((answer) => (answer === undefined ? alone() : (withHeader(answer) as There)));
  };
  return {
    async get(request, context) {
      checkKey(request.key);
      const isReadable = readableHere(request, context);
      if (isReadable !== undefined && (await isReadable)) return readWithRoom(node, request, context);
      return once(
        { case: "get", value: request },
        context,
        async () => {
          await readable(node, request, context.cancel);
          return readWithRoom(node, request, context);
        },
        (leader, settings) => leader.get(request, settings),
      );
    },

    put: (request, context) =>
      once(
        { case: "put", value: request },
        context,
        () => write(node, writes.put, request, context.cancel),
        (leader, settings) => leader.put(request, settings),
      ),

    delete: (request, context) =>
      once(
        { case: "delete", value: request },
        context,
        () => write(node, writes.delete, request, context.cancel),
        (leader, settings) => leader.delete(request, settings),
      ),

    compareAndSet: (request, context) =>
      once(
        { case: "compareAndSet", value: request },
        context,
        () => write(node, writes.compareAndSet, request, context.cancel),
        (leader, settings) => leader.compareAndSet(request, settings),
      ),

    txn: (request, context) =>
      once(
        { case: "txn", value: request },
        context,
        () => write(node, writes.txn, request, context.cancel),
        (leader, settings) => leader.txn(request, settings),
      ),

    async *range(request, context) {
      const checked = checkedRange(request);
      const isReadable = readableHere(request, context);
      if (isReadable !== undefined && (await isReadable)) yield* rangeWithRoom(node, checked, context);
      else {
        yield* forwarding.stream(
          context,
          () => range(node, request, checked, context),
          (leader, settings) => leader.range(request, settings),
        );
      }
    },
  };
}

/** Returns the leader's answer as the answer to a unary call. */
function withHeader({ header, answer }: ForwardedAnswer): object {
  return { ...answer.value, header };
}

/** Carries out a write, and returns its answer. */
async function write<Request extends Pick<CommandInit, "requestId">, Answer extends object>(
  node: KeyValueNode,
  { operationOf, answerOf }: WriteMapping<Request, Answer>,
  request: Request,
  signal: CancelSignal,
): Promise<{ header: Header } & Answer> {
  const { requestId } = request;
  const operation = operationOf(request);
  const result = await execute(node, requestId === undefined ? { operation } : { operation, requestId }, signal);
  const problem = failureOf(result);
  if (problem !== undefined) throw problem;
  return { header: headerOf(node), ...answerOf(request, result) };
}

/** Answers a get from the present state, once there is room for its answer. */
function readWithRoom(node: KeyValueNode, { key }: GetRequest, context: CallContext) {
  const read = () => ({ header: headerOf(node), ...getAnswer(node, key) });
  return answerWithRoom(context, read, ({ kv }) => valueBytes(kv));
}

async function* range(node: KeyValueNode, request: RangeRequest, checked: CheckedRange, context: CallContext) {
  await readable(node, request, context.signal);
  yield* rangeWithRoom(node, checked, context);
}

/** Yields keys of the present state, each part once there is room for it. */
async function* rangeWithRoom(node: KeyValueNode, checked: CheckedRange, context: CallContext) {
  const parts = rangeNow(node, checked);
  try {
    for (;;) {
      const { done, value } = await answerWithRoom(context, () => parts.next(), partBytes);
      if (done === true) return;
      yield value;
    }
  } finally {
    parts.return();
  }
}

function partBytes({ value }: IteratorResult<RangePart, void>): number {
  return (value?.kvs ?? []).reduce((sum, kv) => sum + valueBytes(kv), 0);
}

function valueBytes(kv: KeyValueInit | undefined): number {
  return kv?.value?.byteLength ?? 0;
}

type RangePart = MessageInitShape<typeof RangeResponseSchema>;

interface CheckedRange {
  readonly prefix: Uint8Array;
  readonly after: Uint8Array;
  /** Largest number of keys. */
  readonly most: number;
}

function checkedRange({ prefix, after, limit }: RangeRequest): CheckedRange {
  checkKeyStart(prefix, "prefix");
  checkKeyStart(after, "after");
  return { prefix, after, most: limit === 0n ? Number.MAX_SAFE_INTEGER - 1 : toCount(limit, "limit") };
}

/** Yields keys of the present state. */
function* rangeNow(node: KeyValueNode, { prefix, after, most }: CheckedRange): Generator<RangePart, void, undefined> {
  const header = headerOf(node);
  // One key more than requested shows whether more keys follow.
  const entries = node.machine.range({ prefix, after, limit: most + 1 });
  try {
    yield* inParts(entries, most, header);
  } finally {
    entries.close();
  }
}

/** Yields at least one part; each but the last is about as large as a chunk. */
function* inParts(entries: Iterable<KeyEntry>, most: number, header: Header): Generator<RangePart, void, undefined> {
  let first: { header?: Header } = { header };
  let kvs: KeyValueInit[] = [];
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
