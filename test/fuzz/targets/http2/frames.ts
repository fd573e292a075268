import type { Random } from "../../../support/random.js";
import { mutated, pieces } from "../../generate/mutations.js";
import { anyBytes } from "../../generate/values.js";

// Draws what a client of HTTP/2 may write to its socket, byte by byte: frames in and out of order, of any type, flags and stream.

const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

const types = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

/** Returns the bytes of a connection, in the pieces in which they are written, and the number of frames. */
export function drawConnection(random: Random): { readonly pieces: Buffer[]; readonly frames: number } {
  const parts: Buffer[] = [drawPreface(random)];
  if (!random.oneIn(6))
    parts.push(frame(types.settings, 0, 0, random.oneIn(3) ? drawSettings(random) : Buffer.alloc(0)));
  const count = random.oneIn(12) ? random.whole(50, 400) : random.whole(0, 14);
  const repeated = random.oneIn(4) ? drawFrame(random) : undefined;
  for (let at = 0; at < count; at++) parts.push(repeated ?? drawFrame(random));
  let bytes: Buffer = Buffer.concat(parts);
  if (random.oneIn(5)) bytes = mutated(random, bytes);
  if (bytes.byteLength === 0) bytes = Buffer.from("\r\n");
  return { pieces: random.oneIn(3) ? pieces(random, bytes).slice(0, 100) : [bytes], frames: count + 1 };
}

function drawPreface(random: Random): Buffer {
  if (!random.oneIn(8)) return PREFACE;
  return random.pick([
    Buffer.from("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    Buffer.from(
      "GET / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\n\r\n",
    ),
    PREFACE.subarray(0, random.whole(0, PREFACE.byteLength - 1)),
    Buffer.concat([PREFACE, PREFACE]),
    mutated(random, PREFACE),
    // The first bytes of a TLS handshake.
    Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]),
    anyBytes(random),
  ]);
}

function drawFrame(random: Random): Buffer {
  const stream = drawStream(random);
  const flags = random.oneIn(4) ? random.whole(0, 255) : random.pick([0, 1, 4, 5]);
  switch (random.whole(0, 13)) {
    case 0:
    case 1:
    case 2:
      return frame(types.headers, flags | 4, stream, headerBlock(random));
    case 3:
      return frame(types.headers, flags & ~4, stream, headerBlock(random));
    case 4:
      return frame(types.continuation, flags, stream, random.oneIn(2) ? headerBlock(random) : anyBytes(random));
    case 5:
    case 6:
      return frame(types.data, flags, stream, random.oneIn(2) ? grpcMessage(random) : anyBytes(random));
    case 7:
      return frame(types.settings, flags, random.oneIn(4) ? stream : 0, drawSettings(random));
    case 8:
      return frame(
        types.windowUpdate,
        flags,
        random.oneIn(3) ? 0 : stream,
        uint32(random.pick([0, 1, 65_535, 2 ** 31 - 1, 2 ** 32 - 1])),
      );
    case 9:
      return frame(types.reset, flags, stream, random.oneIn(5) ? anyBytes(random) : uint32(random.whole(0, 20)));
    case 10:
      return frame(
        types.ping,
        flags,
        random.oneIn(5) ? stream : 0,
        random.oneIn(4) ? anyBytes(random) : Buffer.alloc(8),
      );
    case 11:
      return frame(
        types.goAway,
        flags,
        random.oneIn(5) ? stream : 0,
        Buffer.concat([uint32(stream), uint32(2), anyBytes(random)]),
      );
    case 12: {
      // A length that is not that of the payload.
      const bytes = frame(random.whole(0, 9), flags, stream, anyBytes(random));
      bytes.writeUIntBE(random.pick([0, 1, 16_384, 16_385, 2 ** 24 - 1]), 0, 3);
      return bytes;
    }
    default:
      return frame(random.whole(0, 255), flags, stream, anyBytes(random));
  }
}

function drawStream(random: Random): number {
  return random.oneIn(4) ? random.pick([0, 2, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1]) : random.whole(0, 6) * 2 + 1;
}

function drawSettings(random: Random): Buffer {
  const parts: Buffer[] = [];
  for (let left = random.oneIn(10) ? 200 : random.whole(0, 6); left > 0; left--) {
    const setting = Buffer.alloc(6);
    setting.writeUInt16BE(random.oneIn(4) ? random.whole(0, 65_535) : random.whole(1, 8), 0);
    setting.writeUInt32BE(random.pick([0, 1, 100, 16_383, 65_535, 2 ** 24, 2 ** 31, 2 ** 32 - 1]), 2);
    parts.push(setting);
  }
  if (random.oneIn(6)) parts.push(anyBytes(random));
  return Buffer.concat(parts);
}

const METHODS = [
  "/cairn.v1.KeyValueService/Get",
  "/cairn.v1.KeyValueService/Session",
  "/cairn.v1.KeyValueService/Watch",
  "/cairn.v1.RaftService/AppendEntries",
  "/cairn.v1.AdminService/GetStatus",
  "/grpc.health.v1.Health/Watch",
] as const;

/** A block of HPACK: literals without an index, references that may lead nowhere, sizes that are wrong, or anything. */
function headerBlock(random: Random): Buffer {
  if (random.oneIn(8)) return anyBytes(random);
  const fields: Buffer[] = [
    literal(":method", random.oneIn(10) ? "CONNECT" : "POST"),
    literal(":scheme", "http"),
    literal(":path", random.oneIn(8) ? "*" : random.pick(METHODS)),
    literal("content-type", "application/grpc"),
    literal("grpc-timeout", `${random.whole(1, 500)}m`),
  ];
  if (random.oneIn(4))
    fields.push(literal(random.pick(["A", "", " ", ":x", "te", "connection", "a".repeat(500)]), "v"));
  if (random.oneIn(5)) fields.push(Buffer.from([0x80 | random.whole(0, 127)]));
  if (random.oneIn(8)) fields.unshift(Buffer.from([0x3f, 0xff, 0xff, 0xff, 0x7f]));
  if (random.oneIn(8)) fields.reverse();
  if (random.oneIn(12)) fields.push(...Array.from({ length: 300 }, (_, at) => literal(`x-${at}`, "y".repeat(30))));
  if (random.oneIn(8)) fields.push(Buffer.from([0x00, 0x7f, 0xff, 0xff, 0xff, 0x7f]));
  return Buffer.concat(fields);
}

/** A header without an index and without Huffman's code. */
function literal(name: string, value: string): Buffer {
  return Buffer.concat([Buffer.from([0]), text(name), text(value)]);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, "latin1");
  // Up to 126 bytes take one byte of length, more take two.
  if (bytes.byteLength < 127) return Buffer.concat([Buffer.from([bytes.byteLength]), bytes]);
  const rest = bytes.byteLength - 127;
  return Buffer.concat([Buffer.from([127, (rest & 0x7f) | 0x80, rest >> 7]), bytes]);
}

function grpcMessage(random: Random): Buffer {
  const body = anyBytes(random, 60);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(random.oneIn(5) ? random.whole(0, 2 ** 32 - 1) : body.byteLength, 1);
  return Buffer.concat([head, body]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.byteLength, 0, 3);
  head[3] = type;
  head[4] = flags & 0xff;
  head.writeUInt32BE(stream >>> 0, 5);
  return Buffer.concat([head, payload]);
}
