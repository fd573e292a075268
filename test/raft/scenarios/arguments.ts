/** What stands behind a command's name: words, and options of the form name=value. What nobody has asked for at the end is a mistake. */
export class Arguments {
  readonly #words: string[];
  readonly #options = new Map<string, string>();

  constructor(parts: readonly string[]) {
    this.#words = parts.filter((part) => !isOption(part));
    for (const part of parts.filter(isOption)) {
      const at = part.indexOf("=");
      this.#options.set(part.slice(0, at), part.slice(at + 1));
    }
  }

  /** The next word; the command makes no sense without it. */
  word(what: string): string {
    const word = this.#words.shift();
    if (word === undefined) throw new Error(`${what} is missing`);
    return word;
  }

  /** Whether a word stands among those that are left. */
  flag(word: string): boolean {
    const at = this.#words.indexOf(word);
    if (at >= 0) this.#words.splice(at, 1);
    return at >= 0;
  }

  /** The next word that fits, if there is one. */
  match(pattern: RegExp): string | undefined {
    const at = this.#words.findIndex((word) => pattern.test(word));
    return at < 0 ? undefined : this.#words.splice(at, 1)[0];
  }

  /** All words that are left. */
  rest(): string[] {
    return this.#words.splice(0);
  }

  option(name: string): string | undefined {
    const value = this.#options.get(name);
    this.#options.delete(name);
    return value;
  }

  count(name: string): number | undefined {
    const value = this.option(name);
    return value === undefined ? undefined : parseCount(value);
  }

  list(name: string): string[] | undefined {
    return this.option(name)?.split(",");
  }

  /** Fails when something is left. */
  end(): void {
    const left = [...this.#words, ...[...this.#options.keys()].map((name) => `${name}=`)];
    if (left.length > 0) throw new Error(`not understood: ${left.join(" ")}`);
  }
}

function isOption(part: string): boolean {
  return /^[a-z-]+=/.test(part);
}

export function parseCount(text: string): number {
  if (!/^\d+$/.test(text)) throw new Error(`${text} is not a number`);
  return Number(text);
}

/** A place in a log: index/term. */
export function parsePosition(text: string): { index: number; term: number } {
  const [index, term] = text.split("/");
  return { index: parseCount(index!), term: parseCount(term ?? "") };
}

/** Terms of a log's entries: `1x3,2` is 1, 1, 1, 2. */
export function parseTerms(text: string): number[] {
  return text.split(",").flatMap((part) => {
    const [term, times] = part.split("x");
    return Array<number>(parseCount(times ?? "1")).fill(parseCount(term!));
  });
}
