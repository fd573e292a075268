import { isUtf8 } from "node:buffer";

/** A line of the input, or the reason why it cannot be read. */
export type Line =
  | { readonly number: number; readonly text: string }
  | { readonly number: number; readonly fault: string };

const LF = 0x0a;
const CR = 0x0d;

/**
 * Splits a stream into lines of UTF-8, ended by LF or CRLF; the last line needs no end. Blank lines
 * are counted but not returned. The bytes of a line longer than `limitBytes` (gatewayLineBytes) are
 * dropped as they arrive.
 */
export async function* readLines(input: AsyncIterable<Uint8Array>, limitBytes: number): AsyncGenerator<Line> {
  const line = new LineBuffer(limitBytes);
  for await (const data of input) {
    let from = 0;
    for (let end = data.indexOf(LF); end >= 0; end = data.indexOf(LF, from)) {
      line.add(data.subarray(from, end));
      const done = line.take();
      if (done !== undefined) yield done;
      from = end + 1;
    }
    line.add(data.subarray(from));
  }
  const last = line.take();
  if (last !== undefined) yield last;
}

class LineBuffer {
  #parts: Uint8Array[] = [];
  #bytes = 0;
  #number = 0;

  constructor(private readonly limitBytes: number) {}

  add(part: Uint8Array): void {
    this.#bytes += part.byteLength;
    // One extra byte for a CR.
    if (this.#bytes > this.limitBytes + 1) this.#parts = [];
    else this.#parts.push(part);
  }

  /** Returns the line so far, and starts a new one; undefined when the line is blank. */
  take(): Line | undefined {
    const number = ++this.#number;
    const bytes = this.#bytes;
    const whole = Buffer.concat(this.#parts);
    this.#parts = [];
    this.#bytes = 0;
    const content = whole.at(-1) === CR ? whole.subarray(0, -1) : whole;
    if (bytes > this.limitBytes + 1 || content.byteLength > this.limitBytes) {
      return { number, fault: `it is longer than gatewayLineBytes (${this.limitBytes})` };
    }
    // Decoding would replace bytes that are not UTF-8, and values must be kept unchanged.
    if (!isUtf8(content)) return { number, fault: "it is not UTF-8" };
    const text = content.toString("utf8");
    return text.trim() === "" ? undefined : { number, text };
  }
}
