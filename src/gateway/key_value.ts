import type { MessageInitShape } from "@bufbuild/protobuf";
import type { RequestIdSchema } from "../../gen/cairn/v1/storage_pb.js";
import { CairnError, hasCode } from "../errors.js";
import { GatewayError, gatewayCodes } from "./errors.js";
import type { Fields } from "./fields.js";
import { encodeValue, StoredJson } from "./json.js";
import type { Reply } from "./log_compaction.js";
import type { GatewayNode } from "./nodes.js";

/** The messages of the key-value workload, for one node. They go through consensus. */
export class KeyValue {
  constructor(
    private readonly node: GatewayNode,
    private readonly timeoutMs: number,
    /** All nodes of the cluster. */
    private readonly nodes: () => readonly GatewayNode[],
  ) {}

  async write(body: Fields): Promise<Reply> {
    const request = { key: body.key("key"), value: encodeValue(body.value("value")), ...requestIdOf(body) };
    await this.#byLeader(({ kv }) => kv.put(request, { timeoutMs: this.timeoutMs }));
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
      ...requestIdOf(body),
    };
    const answer = await this.#byLeader(({ kv }) => kv.compareAndSet(request, { timeoutMs: this.timeoutMs }));
    if (answer.swapped) return ["cas_ok", {}];
    if (answer.current === undefined) throw noSuchKey(body);
    const present = StoredJson.from(answer.current.value).text;
    const text = `key ${body.name("key")} has the value ${present}, expected ${from.toString("utf8")}`;
    throw new GatewayError(gatewayCodes.preconditionFailed, text);
  }

  /** Has the leader carry out a request; where there is none, makes a node lead first. */
  async #byLeader<Answer>(request: (node: GatewayNode) => Promise<Answer>): Promise<Answer> {
    const first = await unlessNotLeader(() => request(this.node));
    if ("answer" in first) return first.answer;
    const named = this.nodes().find(({ id }) => id === first.leaderHint && id !== this.node.id);
    const second = named === undefined ? first : await unlessNotLeader(() => request(named));
    if ("answer" in second) return second.answer;
    return request(await this.#makeLeader());
  }

  /** This node, if the others vote for it; else whoever they do vote for: one whose log is behind is not elected. */
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

/** What came of a request, unless the node does not lead: then who does, as far as it knows. Nothing happened then. */
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

function requestIdOf(body: Fields): { requestId?: MessageInitShape<typeof RequestIdSchema> } {
  if (!body.has("client_id") && !body.has("seq")) return {};
  // Clients may count from 0; the store's sequences begin at 1.
  return { requestId: { clientId: body.name("client_id"), sequence: BigInt(body.count("seq")) + 1n } };
}

function noSuchKey(body: Fields): GatewayError {
  return new GatewayError(gatewayCodes.keyDoesNotExist, `key ${body.name("key")} does not exist`);
}
