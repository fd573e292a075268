import type { MessageInitShape } from "@bufbuild/protobuf";
import type { KeyValueService, RangeRequest, RangeResponseSchema } from "../../../gen/cairn/v1/kv_pb.js";
import type { CancelSignal } from "../../base/cancel_signal.js";
import { checkKey, checkKeyStart } from "../../base/key_checks.js";
import { limits } from "../../base/limits.js";
import type { KeyEntry } from "../../machine/kv/record_store.js";
import type { CallContext } from "../../rpc/call_context.js";
import type { CallSettings } from "../../rpc/channel.js";
import type { Client } from "../../rpc/client.js";
import { toCount } from "../../rpc/message_counters.js";
import type { ServiceImplementation } from "../../rpc/server.js";
import type { Forwarding } from "../forwarding.js";
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

/** Implements the clients' service of a node. */
export function keyValueService(
  node: KeyValueNode,
  forwarding: Forwarding<typeof KeyValueService>,
  sessions: Sessions,
): ServiceImplementation<typeof KeyValueService> {
  const forwardStream = new ForwardStream(node, forwarding);
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
    get: (request, context) =>
      once(
        { case: "get", value: request },
        context,
        async () => {
          checkKey(request.key);
          await readable(node, request, context.cancel);
          return { header: headerOf(node), ...getAnswer(node, request.key) };
        },
        (leader, settings) => leader.get(request, settings),
      ),

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

    range: (request, context) =>
      forwarding.stream(
        context,
        () => range(node, request, context.signal),
        (leader, settings) => leader.range(request, settings),
      ),

    session: (requests, context) => sessions.serve(requests, context),
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

async function* range(node: KeyValueNode, request: RangeRequest, signal: AbortSignal) {
  const { prefix, after, limit } = request;
  checkKeyStart(prefix, "prefix");
  checkKeyStart(after, "after");
  const most = limit === 0n ? Number.MAX_SAFE_INTEGER - 1 : toCount(limit, "limit");
  await readable(node, request, signal);
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
function* inParts(
  entries: Iterable<KeyEntry>,
  most: number,
  header: Header,
): Generator<MessageInitShape<typeof RangeResponseSchema>> {
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
