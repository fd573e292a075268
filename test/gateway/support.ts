import { PassThrough } from "node:stream";
import { expect, onTestFinished } from "vitest";
import { Gateway } from "../../src/gateway/gateway.js";
import type { JsonStyle } from "../../src/gateway/json.js";
import { type NodeSource, OwnNodes } from "../../src/gateway/nodes.js";
import { silentLogger } from "../../src/system/logger.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";

export type Body = Readonly<Record<string, unknown>> & { readonly type: string };

/** Nodes in this process. Whatever stops one of them by itself fails the test. */
export async function ownNodes(dataDir?: string, segmentBytes?: number): Promise<OwnNodes> {
  const fatal: unknown[] = [];
  const nodes = new OwnNodes({
    dataDir: dataDir ?? (await temporaryDirectory()),
    segmentBytes,
    logger: silentLogger,
    onFatal: (error) => fatal.push(error),
  });
  onTestFinished(async () => {
    await nodes.close();
    expect(fatal).toEqual([]);
  });
  return nodes;
}

interface ConversationOptions {
  readonly style?: JsonStyle;
  readonly dataDir?: string;
  readonly nodes?: NodeSource;
  readonly timeoutMs?: number;
}

/** A gateway that nobody has talked to yet. */
export async function startGateway(options: ConversationOptions = {}): Promise<Conversation> {
  const conversation = new Conversation(options.nodes ?? (await ownNodes(options.dataDir)), options);
  onTestFinished(() => conversation.end());
  return conversation;
}

/** A gateway with these nodes. */
export async function startNodes(
  ids: readonly string[] = ["n1"],
  options: ConversationOptions = {},
): Promise<Conversation> {
  const conversation = await startGateway(options);
  await conversation.replies({ type: "init", node_id: ids[0], node_ids: ids }, "init_ok", {}, ids[0]);
  return conversation;
}

/** Talks to a gateway as a client at its standard input and output does, request by request. */
export class Conversation {
  /** Lines printed and not looked at yet. */
  readonly printed: string[] = [];
  readonly complaints: string[] = [];
  readonly #input = new PassThrough();
  readonly #gateway: Gateway;
  readonly #ended: Promise<void>;
  readonly #replies = new Map<string, number>();
  #msgId = 0;
  #onPrint: () => void = () => {};

  constructor(nodes: NodeSource, { style = "compact", timeoutMs = 10_000 }: ConversationOptions) {
    this.#gateway = new Gateway({
      nodes,
      style,
      timeoutMs,
      logger: silentLogger,
      print: async (line) => {
        this.printed.push(line);
        this.#onPrint();
      },
      complain: (text) => this.complaints.push(text),
    });
    this.#ended = this.#gateway.run(this.#input);
    // Who waits for a reply learns it, too.
    this.#ended.catch(() => {}).finally(() => this.#onPrint());
  }

  /** Sends bytes as they are. */
  send(bytes: string | Uint8Array): void {
    this.#input.write(bytes);
  }

  /** Ends the input, and waits until the gateway has ended. */
  async end(): Promise<void> {
    this.#input.end();
    await this.#ended;
  }

  /** Stops the gateway, as a signal does. */
  close(): Promise<void> {
    return this.#gateway.close();
  }

  /** The next line that is printed. */
  async nextLine(): Promise<string> {
    let hasEnded = false;
    const ended = this.#ended.finally(() => {
      hasEnded = true;
    });
    while (this.printed.length === 0) {
      if (hasEnded) throw new Error("the gateway has ended without a reply");
      const printed = new Promise<void>((resolve) => {
        this.#onPrint = resolve;
      });
      await Promise.race([printed, ended]);
    }
    return this.printed.shift()!;
  }

  /** Sends a request, and returns the body of its reply. */
  async ask(body: Body, dest = "n1"): Promise<Record<string, unknown>> {
    const line = await this.#request(body, dest);
    return (JSON.parse(line) as { body: Record<string, unknown> }).body;
  }

  /** Sends a request, and expects exactly this reply: field by field, and in this order. */
  async replies(body: Body, type: string, fields: object, dest = "n1"): Promise<void> {
    const count = this.#replies.get(dest) ?? 0;
    const line = await this.#request(body, dest);
    const expected = { src: dest, dest: "c1", body: { type, in_reply_to: this.#msgId, msg_id: count, ...fields } };
    expect(line).toBe(JSON.stringify(expected));
  }

  /** Sends a request, and expects an error with this code, whose text matches. */
  async fails(body: Body, code: number, text: RegExp, dest = "n1"): Promise<void> {
    const count = this.#replies.get(dest) ?? 0;
    const reply = await this.ask(body, dest);
    expect(reply).toEqual({ type: "error", in_reply_to: this.#msgId, msg_id: count, code, text: reply.text });
    expect(Object.keys(reply)).toEqual(["type", "in_reply_to", "msg_id", "code", "text"]);
    expect(reply.text).toMatch(text);
  }

  async #request(body: Body, dest: string): Promise<string> {
    const { type, ...fields } = body;
    this.send(`${JSON.stringify({ src: "c1", dest, body: { type, msg_id: ++this.#msgId, ...fields } })}\n`);
    this.#replies.set(dest, (this.#replies.get(dest) ?? 0) + 1);
    return this.nextLine();
  }
}

export function put(index: number, key: unknown, value: unknown, term = 1) {
  return { index, term, command: { op: "put", key, value } };
}

export function get(index: number, key: unknown, term = 1) {
  return { index, term, command: { op: "get", key } };
}

export function del(index: number, key: unknown, term = 1) {
  return { index, term, command: { op: "delete", key } };
}

/** `count` puts of different keys, from index `first`. */
export function puts(first: number, count: number, term = 1) {
  return Array.from({ length: count }, (_, at) => put(first + at, `k${first + at}`, first + at, term));
}

/** Results of `count` entries from index `first` that are all "ok". */
export function oks(first: number, count: number) {
  return Array.from({ length: count }, (_, at) => ({ index: first + at, result: "ok" }));
}
