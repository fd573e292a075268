import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ResponseHeader } from "../../gen/cairn/v1/kv_pb.js";
import type { RequestIdSchema } from "../../gen/cairn/v1/storage_pb.js";
import { CairnError, hasCode } from "../base/errors.js";
import { GatewayError, gatewayCodes } from "./errors.js";
import type { Fields } from "./fields.js";
import { encodeValue, StoredJson } from "./json.js";
import type { Reply } from "./log_compaction.js";
import type { GatewayNode } from "./nodes.js";
import type { RequestClients } from "./request_clients.js";

type RequestIdentity = { readonly requestId?: MessageInitShape<typeof RequestIdSchema> };

interface Headed {
  readonly header?: ResponseHeader | undefined;
}

/** Serves the messages of the key-value workload for one node. They go through consensus. */
export class KeyValueHandlers {
  constructor(
    private readonly node: GatewayNode,
    private readonly timeoutMs: number,
    /** Returns all nodes of the cluster. */
    private readonly nodes: () => readonly GatewayNode[],
    private readonly clients: RequestClients,
  ) {}

  async write(body: Fields): Promise<Reply> {
    const request = { key: body.key("key"), value: encodeValue(body.value("value")) };
    await this.#once(body, (id, { kv }) => kv.put({ ...request, ...id }, { timeoutMs: this.timeoutMs }));
    return ["write_ok", {}];
  }

  async read(body: Fields): Promise<Reply> {
    const key = body.key("key");
    const { kv } = await this.#byLeader((leader) => leader.kv.get({ key }, { timeoutMs: this.timeoutMs }));
    if (kv === undefined) throw noSuchKey(body);
    return ["read_ok", { value: StoredJson.from(kv.value) }];
  }

  async cas(body: Fields): Promise<Reply> {
    const from = encodeValue(body.value("from"));
    const request = {
      key: body.key("key"),
      expected: { case: "value", value: from } as const,
      newValue: encodeValue(body.value("to")),
      createIfMissing: body.has("create_if_not_exists") && body.boolean("create_if_not_exists"),
    };
    const answer = await this.#once(body, (id, { kv }) =>
      kv.compareAndSet({ ...request, ...id }, { timeoutMs: this.timeoutMs }),
    );
    if (answer.swapped) return ["cas_ok", {}];
    if (answer.current === undefined) throw noSuchKey(body);
    const present = answer.currentForgotten
      ? "had another value, too long to be remembered for a retry"
      : `has the value ${StoredJson.from(answer.current.value).text}`;
    const text = `key ${body.name("key")} ${present}, expected ${from.toString("utf8")}`;
    throw new GatewayError(gatewayCodes.preconditionFailed, text);
  }

  /** Carries out a request once, however often it comes, if it names a client and a number. */
  async #once<Answer extends Headed>(
    body: Fields,
    send: (id: RequestIdentity, node: GatewayNode) => Promise<Answer>,
  ): Promise<Answer> {
    if (!body.has("client_id") && !body.has("seq")) return this.#byLeader((node) => send({}, node));
    const clientId = body.name("client_id");
    // Clients may count from 0; the store's sequences begin at 1.
    const sequence = BigInt(body.count("seq")) + 1n;
    const known = body.has("since") ? body.count("since") : this.clients.sinceOf(clientId);
    const attempt = (since: number) =>
      this.#byLeader((node) => send({ requestId: { clientId, sequence, since: BigInt(since) } }, node));
    try {
      return await attempt(0);
    } catch (error) {
      // Nothing happened. The store does not know the client, but the gateway may.
      if (!hasCode(error, "SESSION_EXPIRED") || known === 0) throw error;
      return attempt(known);
    }
  }

  /** Has the leader carry out a request; if there is no leader, makes a node lead first. */
  async #byLeader<Answer extends Headed>(request: (node: GatewayNode) => Promise<Answer>): Promise<Answer> {
    const answer = await this.#answerOfLeader(request);
    this.clients.reached(answer.header?.appliedIndex ?? 0n);
    return answer;
  }

  async #answerOfLeader<Answer>(request: (node: GatewayNode) => Promise<Answer>): Promise<Answer> {
    const first = await unlessNotLeader(() => request(this.node));
    if ("answer" in first) return first.answer;
    const named = this.nodes().find(({ id }) => id === first.leaderHint && id !== this.node.id);
    const second = named === undefined ? first : await unlessNotLeader(() => request(named));
    if ("answer" in second) return second.answer;
    return request(await this.#makeLeader());
  }

  /**
   * Makes this node the leader if the others vote for it; otherwise the first other node that is
   * elected: a node whose log is behind is not elected.
   */
  async #makeLeader(): Promise<GatewayNode> {
    const candidates = [this.node, ...this.nodes().filter(({ id }) => id !== this.node.id)];
    const reasons: string[] = [];
    for (const candidate of candidates) {
      try {
        await candidate.admin.campaign({}, { timeoutMs: this.timeoutMs });
        return candidate;
      } catch (error) {
        const { code, text } = CairnError.from(error);
        if (code !== "FAILED_PRECONDITION" && code !== "NOT_LEADER") throw error;
        reasons.push(text);
      }
    }
    throw new GatewayError(gatewayCodes.temporarilyUnavailable, reasons.join("; "));
  }
}

/**
 * Returns the answer to a request, or, if the node does not lead, the leader that it names. In the
 * second case nothing happened.
 */
async function unlessNotLeader<Answer>(
  request: () => Promise<Answer>,
): Promise<{ readonly answer: Answer } | { readonly leaderHint: string | undefined }> {
  try {
    return { answer: await request() };
  } catch (error) {
    if (hasCode(error, "NOT_LEADER")) return { leaderHint: error.leaderHint };
    throw error;
  }
}

function noSuchKey(body: Fields): GatewayError {
  return new GatewayError(gatewayCodes.keyDoesNotExist, `key ${body.name("key")} does not exist`);
}
