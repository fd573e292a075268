import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FuzzedProcess, inProduct, inRepository } from "../../nodes/process.js";
import { expectThat, Finding, type Target } from "../../run/target.js";
import { drawLine, recordedLines } from "./lines.js";

/** Lines of one case. */
const LINES = 40;

/** How long the gateway may take to answer all of a case, in milliseconds. A bound, not a pause. */
const PATIENCE_MS = 60_000;

/** Lines of JSON to `cairn gateway`, which runs three nodes of its own. */
export class GatewayTarget implements Target {
  readonly name = "gateway";
  readonly round = 100;
  readonly #recorded = recordedLines(inRepository("test/gateway/cases"));
  #gateway: FuzzedProcess | undefined;
  #directory = "";
  #asked = 0;
  #messages = 0;

  async prepare(): Promise<void> {
    this.#directory = await mkdtemp(join(tmpdir(), "cairn-fuzz-gateway-"));
    this.#gateway = new FuzzedProcess(
      "the gateway",
      [inProduct("cli/main.js"), "gateway", "--data-dir", this.#directory],
      "pipe",
    );
    this.#gateway.write(
      '{"src":"c0","dest":"n1","body":{"type":"init","msg_id":1,"node_id":"n1","node_ids":["n1","n2","n3"]}}\n',
    );
    await this.#gateway.until(() => this.#gateway!.lines.length > 0, "answers init");
  }

  async run(random: Parameters<Target["run"]>[0], trace: Parameters<Target["run"]>[1]): Promise<number> {
    const gateway = this.#gateway!;
    gateway.takeLines();
    const lines = Array.from({ length: random.whole(1, LINES) }, () => drawLine(random, this.#recorded));
    for (const line of lines) {
      trace("line", line);
      gateway.write(line);
      gateway.write("\n");
    }
    // Replies come in the order of the lines: this one's is the last.
    const id = 3_000_000_000 + ++this.#asked;
    gateway.write(`${JSON.stringify({ src: "fuzz", dest: "n1", body: { type: "get_log_info", msg_id: id } })}\n`);
    const isLast = (line: string) => line.includes(`"in_reply_to":${id},`);
    await gateway.until(() => gateway.lines.some(isLast), "answers all lines", PATIENCE_MS);
    const replies = gateway.takeLines();
    expectThat(replies.length <= lines.length + 1, () => `${replies.length} replies to ${lines.length + 1} lines`);
    for (const reply of replies) expectReply(reply);
    gateway.expectWell();
    this.#messages += lines.length;
    return lines.length;
  }

  /** The gateway ends well with its input, and its directory can be read by another. */
  async check(): Promise<void> {
    const gateway = this.#gateway!;
    gateway.endInput();
    await gateway
      .until(() => gateway.exit !== undefined, "ends with its input")
      .catch((error: unknown) => {
        if (gateway.exit === undefined) throw error;
      });
    expectThat(
      gateway.exit === "0",
      () => `the gateway has ended with ${gateway.exit}: ${gateway.errors.slice(-2_000)}`,
    );
    await rm(this.#directory, { recursive: true, force: true });
    await this.prepare();
  }

  async close(): Promise<void> {
    await this.#gateway?.kill();
    if (this.#directory !== "") await rm(this.#directory, { recursive: true, force: true });
  }
}

function expectReply(line: string): void {
  let reply: { src?: unknown; dest?: unknown; body?: { type?: unknown; in_reply_to?: unknown; text?: unknown } };
  try {
    reply = JSON.parse(line);
  } catch {
    throw new Finding(`a reply is no JSON: ${line.slice(0, 500)}`);
  }
  const { src, dest, body } = reply;
  const isWhole = typeof src === "string" && typeof dest === "string" && typeof body?.type === "string";
  expectThat(isWhole && typeof body?.in_reply_to === "number", () => `a reply lacks fields: ${line.slice(0, 500)}`);
  const isBug = /is not a function|undefined \(reading|Cannot read|Maximum call stack|is not iterable|assert/i.test(
    String(body?.text ?? ""),
  );
  expectThat(!isBug, () => `a reply shows a bug: ${line.slice(0, 1_000)}`);
}
