import type { SimpleMachine } from "../../../src/machine/in_memory_machine.js";
import type { LogPosition } from "../../../src/raft/types.js";

/** A simple machine for tests: remembers the words that it was given, in order, and answers how many they are. */
export class Words implements SimpleMachine {
  words: string[] = [];

  apply(command: Uint8Array, _at: LogPosition): Uint8Array | undefined {
    const word = Buffer.from(command).toString();
    if (word === "throw") throw new Error("this command is not for me");
    this.words.push(word);
    return word === "quiet" ? undefined : Buffer.from(`${this.words.length}`);
  }

  serialize(): Uint8Array | AsyncIterable<Uint8Array> {
    return Buffer.from(JSON.stringify(this.words));
  }

  restore(bytes: Uint8Array): void {
    // Half done when it throws, as others are.
    this.words = [];
    this.words = JSON.parse(Buffer.from(bytes).toString());
  }
}

export const command = (word: string): Uint8Array => Buffer.from(word);
export const answer = (result: Uint8Array | undefined): string => Buffer.from(result ?? []).toString();
