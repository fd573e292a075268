import type { RecordReader } from "../tables/record_reader.js";

/** A source of records in ascending order of their keys. */
export interface Source {
  /** Stands at the source's next record. */
  readonly reader: RecordReader;
  /** Sources with a lower age are newer. */
  readonly age: number;
}

/**
 * Keeps sources in the order in which a merge takes their records: by key, and newest first where
 * keys are equal. There are few of them, so a sorted list is quicker than a heap.
 */
export class MergeOrder<Each extends Source> {
  readonly #sources: Each[] = [];

  get length(): number {
    return this.#sources.length;
  }

  /** Returns the source of the next record. */
  get first(): Each | undefined {
    return this.#sources[0];
  }

  /** Returns the source behind the first; undefined when there is none. */
  get second(): Each | undefined {
    return this.#sources[1];
  }

  /** Puts a source at its place. */
  insert(source: Each): void {
    this.#sources.unshift(source);
    this.placeFirst();
  }

  /** Puts the first source, which has moved to its next record, at its place. */
  placeFirst(): void {
    const sources = this.#sources;
    const source = sources[0]!;
    let at = 1;
    while (at < sources.length && comesBefore(sources[at]!, source)) {
      sources[at - 1] = sources[at]!;
      at += 1;
    }
    sources[at - 1] = source;
  }

  /** Removes the first source. */
  dropFirst(): void {
    this.#sources.shift();
  }

  /**
   * Whether the first source is the only one whose record has the lowest key. There is a first one.
   */
  get isFirstAlone(): boolean {
    const [first, second] = this.#sources;
    return second === undefined || second.reader.compareTo(first!.reader) !== 0;
  }

  /** Takes the sources whose record has the lowest key, newest first, into `taken`. */
  takeEqual(taken: Each[]): void {
    const sources = this.#sources;
    taken.length = 0;
    let count = 1;
    while (count < sources.length && sources[count]!.reader.compareTo(sources[0]!.reader) === 0) count += 1;
    for (let at = 0; at < count; at++) taken.push(sources[at]!);
    sources.splice(0, count);
  }
}

function comesBefore(one: Source, other: Source): boolean {
  const order = one.reader.compareTo(other.reader);
  return order < 0 || (order === 0 && one.age < other.age);
}
