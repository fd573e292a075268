/** A line of the input, or what is known of one that is too long. */
export type Line =
  | { readonly number: number; readonly text: string }
  | { readonly number: number; readonly tooLong: true };

const LF = 0x0a;
const CR = 0x0d;

/**
 * Splits a stream into lines, ended by LF or CRLF; the last one needs no end. Blank lines are left out but counted. Of a line of more than
 * `limitBytes` only its number is handed out: its bytes are dropped as they come.
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
    // One byte of grace for a CR.
    if (this.#bytes > this.limitBytes + 1) this.#parts = [];
    else this.#parts.push(part);
  }

  /** The line so far, and a new one begins; undefined when it is blank. */
  take(): Line | undefined {
    const number = ++this.#number;
    const parts = this.#parts;
    const bytes = this.#bytes;
    this.#parts = [];
    this.#bytes = 0;
    const whole =
      parts.length === 1 ? Buffer.from(parts[0]!.buffer, parts[0]!.byteOffset, bytes) : Buffer.concat(parts);
    const content = whole.at(-1) === CR ? whole.subarray(0, -1) : whole;
    if (Math.max(content.byteLength, bytes - 1) > this.limitBytes) return { number, tooLong: true };
    const text = content.toString("utf8");
    return text.trim() === "" ? undefined : { number, text };
  }
}
