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
    const sources = this.#sources;
    let at = 0;
    while (at < sources.length && comesBefore(sources[at]!, source)) at += 1;
    sources.splice(at, 0, source);
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
