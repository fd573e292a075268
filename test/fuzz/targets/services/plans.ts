import { deflateSync, gzipSync } from "node:zlib";
import type { DescMethod } from "@bufbuild/protobuf";
import { limits } from "../../../../src/base/limits.js";
import type { Random } from "../../../support/random.js";
import { type Hints, randomMessage } from "../../generate/messages.js";
import { mutated, pieces } from "../../generate/mutations.js";
import { anyBytes, anyText } from "../../generate/values.js";
import { type CallPlan, framed } from "./calls.js";

// Draws calls: messages that are valid, nearly valid, or anything, in frames that are whole or broken.

/** A call that is to be made, and the messages in it. */
export interface DrawnCall {
  readonly plan: CallPlan;
  readonly messages: number;
}

/** Draws what a call of a method is made of. */
export interface CallSource {
  readonly method: DescMethod;
  readonly hints: Hints;
  /** Encoded messages of real traffic for this method. */
  readonly recorded: readonly Uint8Array[];
  /** Draws the messages of a whole call, for a method whose messages mean something only together. */
  readonly conversation?: ((random: Random) => Buffer[]) | undefined;
  /** Whether a message may be sent. */
  readonly isHarmless: (bytes: Uint8Array) => boolean;
}

/** Time in which a call ends that has a deadline: the deadline, and what a busy machine may add. */
const PATIENCE_MS = 30_000;

export function drawCall(random: Random, source: CallSource): DrawnCall {
  const { method } = source;
  const isStream = method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming";
  const count = isStream
    ? random.oneIn(20)
      ? random.whole(20, 60)
      : random.whole(0, 8)
    : random.oneIn(15)
      ? random.whole(0, 3)
      : 1;
  const drawn =
    source.conversation !== undefined && random.oneIn(2)
      ? source.conversation(random)
      : Array.from({ length: count }, () => drawMessage(random, source));
  const messages = drawn.filter(source.isHarmless);
  const frames = messages.map((message) => drawFrame(random, message, source));
  const headers = drawHeaders(random, source);
  const bytes = Buffer.concat(random.oneIn(12) ? broken(random, frames, source) : frames);
  const plan: CallPlan = {
    headers,
    pieces: bytes.byteLength === 0 ? [] : random.oneIn(3) ? pieces(random, bytes).slice(0, 200) : [bytes],
    finish: random.oneIn(8) ? "reset" : random.oneIn(12) ? "leave" : "end",
    patienceMs: PATIENCE_MS,
    turns: random.oneIn(4) ? random.whole(0, 2) : 0,
  };
  return { plan, messages: Math.max(1, messages.length) };
}

function drawMessage(random: Random, { method, hints, recorded }: CallSource): Buffer {
  if (recorded.length > 0 && random.oneIn(3)) {
    const one = random.pick(recorded);
    return random.oneIn(5) ? Buffer.from(one) : mutated(random, one, random.pick(recorded));
  }
  const wildness = random.pick([0, 0, 0, 0.02, 0.1, 0.5]);
  const bytes = randomMessage(random, method.input, { wildness, hints });
  return random.oneIn(10) ? mutated(random, bytes) : bytes;
}

/** A message in its frame, seldom compressed, or with a flag that is none. */
function drawFrame(random: Random, message: Buffer, { isHarmless }: CallSource): Buffer {
  switch (random.whole(0, 60)) {
    case 0:
      return framed(gzipSync(message), 1);
    case 1:
      return framed(deflateSync(message), 1);
    case 2:
      return framed(message, 1);
    case 3:
      return framed(message, random.whole(2, 255));
    case 4: {
      const compressed = gzipSync(message);
      return framed(compressed.subarray(0, random.whole(0, compressed.byteLength)), 1);
    }
    case 5:
      // Decompressed, it is above every limit.
      return random.oneIn(10) ? framed(BOMB, 1) : framed(message);
    case 6: {
      if (!random.oneIn(10)) return framed(message);
      const large = Buffer.concat([
        message,
        Buffer.alloc(limits.messageBytes + random.whole(-64, 64) - message.byteLength),
      ]);
      return isHarmless(large) ? framed(large) : framed(message);
    }
    default:
      return framed(message);
  }
}

const BOMB = gzipSync(Buffer.alloc(32 * 1024 * 1024));

/** Frames whose lengths or borders are wrong. */
function broken(random: Random, frames: readonly Buffer[], { isHarmless }: CallSource): Buffer[] {
  const all = [...frames];
  const body = anyBytes(random);
  switch (random.whole(0, 5)) {
    case 0:
      all.push(
        framed(body, 0, random.pick([body.byteLength + 1, 1_000, 2 ** 31, 2 ** 32 - 1, limits.messageBytes + 1])),
      );
      break;
    case 1:
      all.push(Buffer.alloc(random.whole(1, 4)));
      break;
    case 2:
      if (isHarmless(body)) all.push(framed(body, 0, Math.max(0, body.byteLength - random.whole(1, 8))));
      break;
    case 3:
      if (isHarmless(body)) all.unshift(framed(body));
      break;
    case 4:
      all.push(...Array.from({ length: random.whole(1, 200) }, () => Buffer.alloc(5)));
      break;
    default:
      if (all.length > 0) all.push(all.at(-1)!.subarray(0, random.whole(0, all.at(-1)!.byteLength)));
  }
  return all;
}

function drawHeaders(random: Random, { method }: CallSource): Record<string, string | string[]> {
  const headers: Record<string, string | string[]> = {
    ":method": "POST",
    ":path": `/${method.parent.typeName}/${method.name}`,
    "content-type": "application/grpc+proto",
    te: "trailers",
    "grpc-timeout": `${random.whole(100, 800)}m`,
  };
  if (!random.oneIn(10)) return headers;
  switch (random.whole(0, 11)) {
    case 0:
      headers["content-type"] = random.pick([
        "application/json",
        "application/grpc",
        "application/grpc-web",
        "text/plain",
        "",
      ]);
      break;
    case 1:
      headers[":path"] = random.pick([
        "/",
        "//",
        `/${method.parent.typeName}`,
        "/cairn.v1.KeyValueService/Nothing",
        `/${"x".repeat(5_000)}`,
        "/%00/%ff",
      ]);
      break;
    case 2:
      headers["grpc-timeout"] = random.pick([
        "",
        "1",
        "S",
        "-1S",
        "0m",
        "1n",
        "99999999S",
        "99999999H",
        "100000000S",
        "1x",
        "0x10S",
        " 5 m",
      ]);
      break;
    case 3:
      headers["grpc-encoding"] = random.pick(["gzip", "deflate", "identity", "snappy", "", "gzip,deflate"]);
      break;
    case 4:
      headers[":method"] = random.pick(["GET", "PUT", "OPTIONS", "POSTPOST"]);
      break;
    case 5:
      headers["cairn-forwarded-by"] = printable(anyText(random)) || "n9";
      headers["cairn-cluster"] = random.pick(["", "x", "0".repeat(32)]);
      break;
    case 6:
      headers["data-bin"] = random.pick(["!!!", "AAAA", "A", "=".repeat(100)]);
      break;
    case 7:
      for (let at = random.whole(1, 80); at > 0; at--) headers[`x-${at}`] = "v".repeat(random.whole(0, 90));
      break;
    case 8:
      headers["x-long"] = "v".repeat(random.whole(1_000, 14_000));
      break;
    case 9:
      delete headers.te;
      break;
    case 10:
      delete headers["content-type"];
      break;
    default:
      headers.authorization = printable(anyText(random));
      headers["grpc-accept-encoding"] = "\u00ff";
  }
  return headers;
}

function printable(bytes: Buffer): string {
  return bytes.toString("latin1").replace(/[^\x21-\x7e]/g, "");
}
