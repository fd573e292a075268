/** Events that a failure is reported with. */
const REMEMBERED = 60;

const END_OF_LINE = 0xffff;

/** What has happened in a run: all of it goes into a hash, the last of it is remembered. */
export class Trace {
  #high = 0x811c9dc5;
  #low = 0x01234567;
  readonly #last: string[] = [];
  #count = 0;

  /** `print` is given every line. */
  constructor(private readonly print?: (line: string) => void) {}

  get count(): number {
    return this.#count;
  }

  /** Tells apart runs in which anything was different. */
  get hash(): string {
    return `${hex(this.#high)}${hex(this.#low)}`;
  }

  /** The last lines, oldest first. */
  get last(): string[] {
    const start = this.#count % REMEMBERED;
    return this.#count < REMEMBERED ? [...this.#last] : [...this.#last.slice(start), ...this.#last.slice(0, start)];
  }

  add(line: string): void {
    this.#last[this.#count % REMEMBERED] = line;
    this.#count += 1;
    for (let at = 0; at < line.length; at++) this.#mix(line.charCodeAt(at));
    this.#mix(END_OF_LINE);
    this.print?.(line);
  }

  /** Takes a number into the hash that is no line of its own. */
  mix(value: number): void {
    this.#mix(value >>> 0);
    this.#mix(Math.floor(value / 2 ** 32));
  }

  #mix(value: number): void {
    this.#high = Math.imul(this.#high ^ value, 0x01000193);
    this.#low = Math.imul(this.#low ^ value, 0x5bd1e995) ^ (this.#low >>> 15);
  }
}

function hex(value: number): string {
  return (value >>> 0).toString(16).padStart(8, "0");
}
