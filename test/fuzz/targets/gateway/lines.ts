import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Random } from "../../../support/random.js";
import { randomJson } from "../../generate/json.js";
import { mutated } from "../../generate/mutations.js";
import { anyBytes, anyText } from "../../generate/values.js";

// Draws lines for the gateway: those of its tests, changed, and others.

/** The requests in the cases of the gateway's tests. */
export function recordedLines(folder: string): string[] {
  const files = readdirSync(folder).filter((name) => name.endsWith(".in.jsonl"));
  const lines = files.sort().flatMap((name) => readFileSync(join(folder, name), "utf8").split(/\r?\n/));
  // Restarts take long; a few are drawn below.
  return lines.filter((line) => line.trim() !== "" && !line.includes('"init"') && !line.includes('"restart"'));
}

export function drawLine(random: Random, recorded: readonly string[]): Buffer {
  switch (random.whole(0, 9)) {
    case 0:
      return Buffer.from(random.pick(recorded));
    case 1:
    case 2:
      return oneLine(mutated(random, Buffer.from(random.pick(recorded)), Buffer.from(random.pick(recorded))));
    case 3:
    case 4:
      return Buffer.from(withAnother(random, random.pick(recorded)));
    case 5:
      return oneLine(Buffer.from(randomJson(random)));
    case 6:
      return oneLine(anyBytes(random));
    case 7:
      return random.oneIn(40) ? Buffer.from(JSON.stringify(request(random, "restart", {}))) : Buffer.from("");
    default:
      return Buffer.from(JSON.stringify(drawRequest(random)));
  }
}

/** The same request with another value somewhere. */
function withAnother(random: Random, line: string): string {
  const values = [...line.matchAll(/:("[^"]*"|-?\d+|true|false|null)/g)];
  const found = values.length === 0 ? undefined : random.pick(values);
  if (found === undefined) return line;
  const at = found.index + 1;
  const value = randomJson(random, 3).replace(/[\r\n]/g, " ");
  return line.slice(0, at) + value + line.slice(at + found[1]!.length);
}

function drawRequest(random: Random): object {
  const key = () => (random.oneIn(5) ? anyText(random).toString("utf8") : `k${random.whole(0, 9)}`);
  const value = () => JSON.parse(safeJson(random)) as unknown;
  const index = random.whole(0, 60);
  switch (random.whole(0, 8)) {
    case 0:
      return request(random, "write", { key: key(), value: value() });
    case 1:
      return request(random, "read", { key: key() });
    case 2:
      return request(random, "cas", { key: key(), from: value(), to: value(), create_if_not_exists: random.oneIn(2) });
    case 3: {
      const entries = Array.from({ length: random.whole(0, 4) }, (_, at) => ({
        index: index + at,
        term: random.whole(0, 4),
        command: { op: random.pick(["put", "get", "delete", "swap"]), key: key(), value: value() },
      }));
      return request(random, "apply_entries", { entries });
    }
    case 4:
      return request(random, "take_snapshot", random.oneIn(2) ? {} : { threshold: random.whole(-1, 9) });
    case 5:
      return request(random, "install_snapshot", {
        snapshot_index: random.oneIn(6) ? 2 ** random.whole(30, 60) : index,
        snapshot_term: random.whole(0, 4),
        state: { [key()]: value() },
      });
    case 6:
      return request(random, "should_snapshot", { threshold: random.whole(0, 9) });
    case 7:
      return request(random, "write", {
        key: key(),
        value: value(),
        client_id: `c${random.whole(0, 3)}`,
        seq: random.whole(-1, 9),
      });
    default:
      return request(random, random.pick(["get_state", "get_log_info", "get_snapshot", "fly", "toString"]), {});
  }
}

function request(random: Random, type: string, fields: object): object {
  const msgId = random.oneIn(8) ? {} : { msg_id: random.whole(0, 2 ** 31) };
  return { src: "c1", dest: `n${random.whole(1, random.oneIn(8) ? 4 : 3)}`, body: { type, ...msgId, ...fields } };
}

/** JSON text that JSON.parse takes. */
function safeJson(random: Random): string {
  const text = randomJson(random, 3);
  try {
    JSON.parse(text);
    return text;
  } catch {
    return "0";
  }
}

/** Line ends within would make several lines of it, which is fine; a NUL or so stays. */
function oneLine(bytes: Buffer): Buffer {
  return Buffer.from(bytes.map((byte) => (byte === 0x0a ? 0x20 : byte)));
}
