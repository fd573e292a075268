import { expect } from "vitest";
import { CairnError, type CairnErrorCode } from "../../src/base/errors.js";
import type { Clock } from "../../src/system/clock.js";

/** How long a condition may take to come true before the test fails, in milliseconds. */
const PATIENCE_MS = 20_000;

/** Resolves when the condition holds, looking once a turn of the event loop. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`waited ${PATIENCE_MS} ms in vain until ${what}`);
    await nextTurn();
  }
}

export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Lets the event loop go round, so that whatever can go on by itself has gone on. */
export async function manyTurns(turns = 50): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await nextTurn();
}

/** Whether a warning is about anything else than how busy the machine is that runs the tests. */
export function isLasting(warning: string): boolean {
  return !/stalled for|the disk is too slow|its answers take/.test(warning);
}

/** Resolves when the condition holds, asking again once a turn of the event loop. */
export async function untilAsync(condition: () => Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`waited ${PATIENCE_MS} ms in vain until ${what}`);
    await nextTurn();
  }
}

/** Length of a beat of {@link awakeMs}, in milliseconds. */
const BEAT_MS = 5;

/**
 * Resolves with how many milliseconds a task took of this process's own time: a sum of short timers, each of which counts its length
 * alone. A machine that is busy with others stretches the timers of a task and these alike. Never more than the clock says.
 */
export async function awakeMs(task: Promise<unknown>): Promise<number> {
  let beats = 0;
  const timer = setInterval(() => beats++, BEAT_MS);
  try {
    await task;
    return beats * BEAT_MS;
  } finally {
    clearInterval(timer);
  }
}

/** Whether a promise is settled by now. */
export async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  const pending = Symbol();
  const first = await Promise.race([promise.catch(() => undefined), manyTurns(5).then(() => pending)]);
  return first !== pending;
}

/** Does something in every turn of the event loop until a promise is settled; resolves with what that resolves with. */
export async function during<Value>(promise: Promise<Value>, act: () => unknown): Promise<Value> {
  let ended = false;
  const end = () => {
    ended = true;
  };
  promise.then(end, end);
  while (!ended) {
    await act();
    await nextTurn();
  }
  return promise;
}

/** What a task fails with, which must be a CairnError of this code. */
export async function failure(
  code: CairnErrorCode,
  task: Promise<unknown> | (() => unknown),
  text: string | RegExp = "",
): Promise<CairnError> {
  let error: unknown;
  try {
    await (typeof task === "function" ? task() : task);
  } catch (caught) {
    error = caught;
  }
  if (error === undefined) throw new Error(`expected a failure with ${code}, got none`);
  if (!(error instanceof CairnError)) throw error;
  expect(error.message).toContain(`[${code}]`);
  expect(error.message).toMatch(text);
  return error;
}

/** A promise with its handles outside. */
export function deferred<Value = void>() {
  let resolve!: (value: Value) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<Value>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}

/** A clock whose time moves only when told to. What is to happen soon happens in the next turn of the event loop. */
export class ManualClock implements Clock {
  #now = 0;
  #timers: { at: number; run: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  after(ms: number, run: () => void): () => void {
    const timer = { at: this.#now + ms, run };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  soon(run: () => void): void {
    setImmediate(run);
  }

  /** Timers that are set. */
  get pending(): number {
    return this.#timers.length;
  }

  /** Moves the time on and runs what is due. */
  advance(ms: number): void {
    this.#now += ms;
    const due = this.#timers.filter((timer) => timer.at <= this.#now);
    this.#timers = this.#timers.filter((timer) => timer.at > this.#now);
    for (const timer of due) timer.run();
  }
}
