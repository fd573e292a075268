// Speaks HTTP/2 over a bare socket, one frame at a time, also as no correct client does.
import { connect } from "node:net";

export const frameTypes = {
  data: 0,
  headers: 1,
  reset: 3,
  settings: 4,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
};
export const flags = { endStream: 1, ack: 1, endHeaders: 4 };

const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
export const FRAME_BYTES = 16_384;

/** Returns an encoded frame. */
export function frame(type, flag, stream, payload = Buffer.alloc(0)) {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.byteLength, 0, 3);
  head[3] = type;
  head[4] = flag;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** Returns an HPACK integer with a prefix of so many bits, below `mark`. */
function integer(value, bits, mark) {
  const most = 2 ** bits - 1;
  if (value < most) return Buffer.from([mark | value]);
  const bytes = [mark | most];
  let left = value - most;
  for (; left >= 128; left = Math.floor(left / 128)) bytes.push((left % 128) + 128);
  return Buffer.from([...bytes, left]);
}

function text(value) {
  const bytes = Buffer.from(value, "latin1");
  return Buffer.concat([integer(bytes.byteLength, 7, 0), bytes]);
}

/** Returns a header as HPACK literal; with `indexed`, it enters the dynamic table. */
export function literal(name, value, indexed = false) {
  return Buffer.concat([Buffer.from([indexed ? 0x40 : 0]), text(name), text(value)]);
}

/** Returns the headers of a gRPC call as an HPACK block, without use of the dynamic table. */
export function callHeaders(path, more = []) {
  const fixed = [Buffer.from([0x83, 0x86]), literal(":path", path), literal(":authority", "flood")];
  return Buffer.concat([...fixed, literal("te", "trailers"), literal("content-type", "application/grpc"), ...more]);
}

/** Returns a header block as HEADERS and CONTINUATION frames. */
export function headerFrames(stream, block, { endStream = false } = {}) {
  const frames = [];
  for (let at = 0; at === 0 || at < block.byteLength; at += FRAME_BYTES) {
    const part = block.subarray(at, at + FRAME_BYTES);
    const last = at + FRAME_BYTES >= block.byteLength ? flags.endHeaders : 0;
    const first = at === 0;
    const flag = last | (first && endStream ? flags.endStream : 0);
    frames.push(frame(first ? frameTypes.headers : frameTypes.continuation, flag, stream, part));
  }
  return Buffer.concat(frames);
}

/** Returns a message as gRPC frames it. */
export function grpcMessage(bytes, { isCompressed = false } = {}) {
  const head = Buffer.alloc(5);
  head[0] = isCompressed ? 1 : 0;
  head.writeUInt32BE(bytes.byteLength, 1);
  return Buffer.concat([head, bytes]);
}

/** A connection that reads frames and answers nothing but SETTINGS, unless it is told otherwise. */
export class RawConnection {
  nextStream = 1;
  /** Frames that have come, by type. */
  received = {};
  isClosed = false;
  #rest = Buffer.alloc(0);
  #socket;

  constructor(address, { acknowledges = true, greets = true, reads = true } = {}) {
    const [host, port] = [
      address.slice(0, address.lastIndexOf(":")),
      Number(address.slice(address.lastIndexOf(":") + 1)),
    ];
    this.acknowledges = acknowledges;
    this.#socket = connect({ host, port, noDelay: true });
    this.#socket.on("error", () => {});
    this.#socket.on("close", () => {
      this.isClosed = true;
    });
    if (reads) this.#socket.on("data", (bytes) => this.#read(bytes));
    if (greets) this.#socket.write(Buffer.concat([PREFACE, frame(frameTypes.settings, 0, 0)]));
  }

  /** Sends frames; resolves when the socket takes more. */
  async send(bytes) {
    if (this.isClosed || this.#socket.write(bytes)) return;
    await new Promise((resolve) => {
      const go = () => {
        this.#socket.off("drain", go).off("close", go);
        resolve();
      };
      this.#socket.on("drain", go).on("close", go);
    });
  }

  stream() {
    const stream = this.nextStream;
    this.nextStream += 2;
    return stream;
  }

  close() {
    this.#socket.destroy();
  }

  #read(bytes) {
    this.#rest = Buffer.concat([this.#rest, bytes]);
    while (this.#rest.byteLength >= 9) {
      const length = this.#rest.readUIntBE(0, 3);
      if (this.#rest.byteLength < 9 + length) return;
      const [type, flag] = [this.#rest[3], this.#rest[4]];
      this.received[type] = (this.received[type] ?? 0) + 1;
      if (type === frameTypes.settings && (flag & flags.ack) === 0 && this.acknowledges) {
        void this.send(frame(frameTypes.settings, flags.ack, 0));
      }
      this.#rest = this.#rest.subarray(9 + length);
    }
  }
}
