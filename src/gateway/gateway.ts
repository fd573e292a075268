import { limits } from "../base/limits.js";
import type { Logger } from "../system/logger.js";
import { GatewayError, gatewayCodes } from "./errors.js";
import { Fields, isObject } from "./fields.js";
import { type JsonStyle, parseJson, printJson } from "./json.js";
import { KeyValueHandlers } from "./key_value.js";
import { readLines } from "./lines.js";
import { LogCompaction, type Reply } from "./log_compaction.js";
import type { GatewayNode, NodeSource } from "./nodes.js";
import { RequestClients } from "./request_clients.js";

/** Nodes, limits and output of a gateway. */
export interface GatewayOptions {
  readonly nodes: NodeSource;
  readonly style: JsonStyle;
  /** Time limit for a node's answer, in milliseconds. */
  readonly timeoutMs: number;
  readonly logger: Logger;
  /** Writes a line of output; resolves when there is room for more. */
  readonly print: (line: string) => Promise<void>;
  /** Shows a message to the person at the keyboard. */
  readonly complain: (text: string) => void;
}

/** A request: sender, receiver, type and body. */
interface Envelope {
  readonly src: string;
  readonly dest: string;
  readonly type: string;
  readonly msgId: number | undefined;
  readonly body: Fields;
}

type RequestHandler = (served: NodeHandlers, body: Fields) => Promise<Reply>;

/** The handler of each message type, except init and restart. */
const handlers: ReadonlyMap<string, RequestHandler> = new Map<string, RequestHandler>([
  ["apply_entries", ({ log }, body) => log.applyEntries(body)],
  ["seed_state", ({ log }, body) => log.seedState(body)],
  ["take_snapshot", ({ log }, body) => log.takeSnapshot(body)],
  ["install_snapshot", ({ log }, body) => log.installSnapshot(body)],
  ["get_log_info", ({ log }) => log.getLogInfo()],
  ["get_state", ({ log }) => log.getState()],
  ["get_snapshot", ({ log }) => log.getSnapshot()],
  ["should_snapshot", ({ log }, body) => log.shouldSnapshot(body)],
  ["write", ({ kv }, body) => kv.write(body)],
  ["read", ({ kv }, body) => kv.read(body)],
  ["cas", ({ kv }, body) => kv.cas(body)],
]);

const knownTypes = ["init", ...handlers.keys(), "restart"];

/** A node with the handlers that serve it. */
class NodeHandlers {
  readonly log: LogCompaction;
  readonly kv: KeyValueHandlers;

  constructor(
    readonly node: GatewayNode,
    timeoutMs: number,
    nodes: () => readonly GatewayNode[],
    clients: RequestClients,
  ) {
    this.log = new LogCompaction(node, timeoutMs);
    this.kv = new KeyValueHandlers(node, timeoutMs, nodes, clients);
  }
}

/**
 * Reads requests from a stream of lines, turns each into calls on the services of nodes, and prints
 * the replies in order.
 */
export class Gateway {
  /** Undefined before init. */
  #nodes: Map<string, NodeHandlers> | undefined;
  #clients: RequestClients | undefined;
  readonly #replies = new Map<string, number>();
  #closed = false;

  constructor(private readonly options: GatewayOptions) {}

  /**
   * Answers all of `input`, or all that has arrived before {@link close}; then releases the nodes.
   */
  async run(input: AsyncIterable<Uint8Array>): Promise<void> {
    try {
      for await (const line of readLines(input, limits.gatewayLineBytes)) {
        if (this.#closed) break;
        if ("fault" in line) this.#skip(line.number, line.fault);
        else await this.#handleLine(line.number, line.text);
      }
    } finally {
      await this.close();
    }
  }

  /**
   * Stops taking requests, and stops the nodes that the gateway started; the current request fails.
   * May be called more than once.
   */
  async close(): Promise<void> {
    this.#closed = true;
    for (const { log } of this.#nodes?.values() ?? []) log.close();
    await this.options.nodes.close();
  }

  async #handleLine(number: number, text: string): Promise<void> {
    const envelope = toEnvelope(text);
    if (typeof envelope === "string") return this.#skip(number, envelope);
    await this.#reply(envelope, await this.#answerOrError(envelope, number));
  }

  async #answerOrError(envelope: Envelope, line: number): Promise<Reply> {
    try {
      return await this.#answer(envelope);
    } catch (error) {
      const { code, text } = GatewayError.from(error);
      if (!(error instanceof GatewayError)) {
        this.options.logger.warn({ line, reason: text }, "request failed");
        this.options.logger.debug({ line, err: error }, "request failed");
      }
      return ["error", { code, text }];
    }
  }

  async #answer({ dest, type, body }: Envelope): Promise<Reply> {
    if (type === "init") return this.#init(dest, body);
    const handler = handlers.get(type);
    if (handler === undefined && type !== "restart") {
      const text = `type ${JSON.stringify(type)} is not known; known are ${knownTypes.join(", ")}`;
      throw new GatewayError(gatewayCodes.notSupported, text);
    }
    const served = this.#find(dest);
    return handler === undefined ? this.#restart(served) : handler(served, body);
  }

  #find(dest: string): NodeHandlers {
    if (this.#nodes === undefined) {
      throw new GatewayError(gatewayCodes.temporarilyUnavailable, "not initialised: send init first");
    }
    return this.#nodes.get(dest) ?? unknownNode(dest, [...this.#nodes.keys()]);
  }

  async #init(dest: string, body: Fields): Promise<Reply> {
    const nodeId = body.string("node_id");
    const ids = [...new Set(body.strings("node_ids"))];
    if (!ids.includes(nodeId)) {
      const text = `field node_id is ${JSON.stringify(nodeId)}, which is none of node_ids ${ids.join(", ")}`;
      throw new GatewayError(gatewayCodes.malformedRequest, text);
    }
    if (!ids.includes(dest)) unknownNode(dest, ids);
    if (this.#nodes !== undefined) return checkSameNodes([...this.#nodes.keys()], ids);
    const { names } = this.options.nodes;
    for (const id of ids) if (names !== undefined && !names.includes(id)) unknownNode(id, names);
    const nodes = await this.options.nodes.open(ids);
    this.#nodes = new Map(nodes.map((node) => [node.id, this.#serve(node)]));
    return ["init_ok", {}];
  }

  #serve(node: GatewayNode): NodeHandlers {
    const all = () => [...(this.#nodes?.values() ?? [])].map((served) => served.node);
    this.#clients ??= new RequestClients(this.options.nodes.areNew);
    return new NodeHandlers(node, this.options.timeoutMs, all, this.#clients);
  }

  async #restart({ node, log }: NodeHandlers): Promise<Reply> {
    log.close();
    const restarted = this.#serve(await this.options.nodes.restart(node));
    this.#nodes!.set(node.id, restarted);
    const status = await restarted.node.admin.getStatus({}, { timeoutMs: this.options.timeoutMs });
    return [
      "restart_ok",
      {
        snapshot_index: Number(status.snapshotIndex),
        last_applied: Number(status.appliedIndex),
        replayed_entries: Number(status.recovery?.replayedEntries ?? 0),
      },
    ];
  }

  async #reply({ src, dest, msgId }: Envelope, [type, fields]: Reply): Promise<void> {
    if (msgId === undefined) {
      if (type === "error") this.options.complain(`a request without msg_id failed: ${String(fields.text)}`);
      return;
    }
    const count = this.#replies.get(dest) ?? 0;
    this.#replies.set(dest, count + 1);
    const body = { type, in_reply_to: msgId, msg_id: count, ...fields };
    await this.options.print(printJson({ src: dest, dest: src, body }, this.options.style));
  }

  #skip(number: number, reason: string): void {
    this.options.complain(`line ${number} skipped: ${reason}`);
  }
}

/** Returns the request in a line, or the reason why the line holds none. */
function toEnvelope(text: string): Envelope | string {
  let message: unknown;
  try {
    message = parseJson(text);
  } catch (error) {
    return `it is not JSON (${error instanceof Error ? error.message : String(error)})`;
  }
  if (!isObject(message)) return "it is not a JSON object";
  const { src, dest, body } = message;
  if (typeof src !== "string") return "src is not a string";
  if (typeof dest !== "string") return "dest is not a string";
  if (!isObject(body)) return "body is not an object";
  if (typeof body.type !== "string") return "body.type is not a string";
  if (body.msg_id !== undefined && !Number.isSafeInteger(body.msg_id)) return "body.msg_id is not a whole number";
  return { src, dest, type: body.type, msgId: body.msg_id as number | undefined, body: new Fields(body) };
}

function checkSameNodes(present: readonly string[], wanted: readonly string[]): Reply {
  if (present.length === wanted.length && wanted.every((id) => present.includes(id))) return ["init_ok", {}];
  const text = `initialised already, with the nodes ${present.join(", ")}`;
  throw new GatewayError(gatewayCodes.preconditionFailed, text);
}

function unknownNode(dest: string, known: readonly string[]): never {
  const text = `node ${JSON.stringify(dest)} is not known; known are ${known.join(", ")}`;
  throw new GatewayError(gatewayCodes.nodeNotFound, text);
}
