import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import { CairnError } from "../../../src/base/errors.js";
import { limits } from "../../../src/base/limits.js";
import { DEFAULT_SESSION_LIMITS } from "../../../src/machine/kv/session_limits.js";
import { Exchange } from "../../../src/machine/worker/exchange.js";
import type { TaskRequest, ToWorker } from "../../../src/machine/worker/messages.js";
import { restoreInWorker } from "../../../src/machine/worker/worker_restore.js";
import type { TaskClient, WorkerThread } from "../../../src/machine/worker/worker_thread.js";
import { temporaryDirectory } from "../../support/disk/temporary_directory.js";
import {
  applyOperation,
  contents,
  inPieces,
  metaAt,
  openLmdb,
  payloadOf,
  put,
} from "../../support/machines/machines.js";
import { UPSET, upset } from "../../support/machines/upset.js";

/** The payload of a state with `keys` keys of 100,000 bytes, at index `keys` of term 1. */
async function payloadWith(keys: number): Promise<Buffer> {
  const machine = await openLmdb({ directory: await temporaryDirectory() });
  for (let n = 1; n <= keys; n++) applyOperation(machine, put(`key ${n}`, `${n % 10}`.repeat(100_000)));
  const payload = await payloadOf(machine);
  await machine.close();
  return payload;
}

/** The same bytes, with a task to be done half-way. */
async function* interrupted(payload: Buffer, task: () => Promise<unknown>): AsyncGenerator<Uint8Array> {
  const half = Math.floor(payload.byteLength / 2);
  yield* inPieces(payload.subarray(0, half), 50_000);
  await task();
  yield* inPieces(payload.subarray(half), 50_000);
}

async function never(): Promise<never> {
  return new Promise(() => {});
}

const target = { path: "/nowhere", at: { index: 1, term: 1 }, sessionLimits: DEFAULT_SESSION_LIMITS };

/** A thread that does nothing by itself: the test answers in its place. */
class SilentThread implements Pick<WorkerThread, "add" | "post" | "remove" | "wait"> {
  readonly requests: TaskRequest[] = [];
  client: TaskClient | undefined;

  add(client: TaskClient): number {
    this.client = client;
    return 1;
  }

  post(message: ToWorker): void {
    if (message !== "stop") this.requests.push(message.request);
  }

  remove(): void {}

  wait<Result>(result: Promise<Result>): Promise<Result> {
    return result;
  }

  count(type: TaskRequest["type"]): number {
    return this.requests.filter((request) => request.type === type).length;
  }
}

test("a slow worker has at most limits.workerBuffers blocks queued, and the payload waits", async () => {
  const thread = new SilentThread();
  const exchange = new Exchange(thread as unknown as WorkerThread);
  let asked = 0;
  const payload = (async function* () {
    for (; asked < 20; asked++) yield new Uint8Array(limits.payloadSliceBytes);
  })();
  const restored = restoreInWorker(target, payload, exchange, new AbortController().signal);
  for (let turn = 0; turn < 100; turn++) await nextTurn();
  expect(thread.count("block")).toBe(limits.workerBuffers);
  expect(asked).toBeLessThanOrEqual(limits.workerBuffers + 1);
  for (let answered = 1; answered <= 20; answered++) {
    thread.client!.deliver({ type: "taken", buffer: new ArrayBuffer(limits.payloadSliceBytes) });
    for (let turn = 0; turn < 20; turn++) await nextTurn();
    expect(thread.count("block")).toBe(Math.min(20, answered + limits.workerBuffers));
  }
  expect(thread.requests.at(-1)).toEqual({ type: "finish" });
  thread.client!.deliver({ type: "restored" });
  await restored;
});

test("an error of the worker ends the restore even when the payload never continues", async () => {
  const payload = await payloadWith(10);
  payload[24]! = 0xff;
  const machine = await openLmdb({ directory: await temporaryDirectory() });
  applyOperation(machine, put("old", "1"));
  const restored = machine.restore(interrupted(payload, never), metaAt({ index: 10, term: 1 }));
  await expect(restored).rejects.toMatchObject({ code: "CORRUPT", message: expect.stringContaining("tag 255") });
  expect(contents(machine)).toEqual(["old=1@1"]);
});

test("an unexpected error of the thread fails the restore half-way and keeps the old state, and the next restore succeeds", async () => {
  const payload = await payloadWith(100);
  const directory = await temporaryDirectory();
  const machine = await openLmdb({ directory });
  applyOperation(machine, put("old", "1"));
  const started = once(process, "worker") as Promise<[Worker]>;
  const at = metaAt({ index: 100, term: 1 });
  const killed = machine.restore(
    interrupted(payload, async () => upset((await started)[0])),
    at,
  );
  await expect(killed).rejects.toMatchObject({ code: "INTERNAL", message: expect.stringContaining(UPSET) });
  expect(contents(machine)).toEqual(["old=1@1"]);
  expect((await readdir(directory)).filter((name) => name.startsWith("view-"))).toEqual(["view-1"]);
  await machine.restore(inPieces(payload, 50_000), at);
  expect((await payloadOf(machine)).equals(payload)).toBe(true);
});

test("an error of the payload is passed on unchanged, and nothing of the restore is left", async () => {
  const payload = await payloadWith(20);
  const directory = await temporaryDirectory();
  const machine = await openLmdb({ directory });
  const broken = new CairnError("UNREACHABLE", "the sender is gone");
  const failing = interrupted(payload, async () => {
    throw broken;
  });
  await expect(machine.restore(failing, metaAt({ index: 20, term: 1 }))).rejects.toBe(broken);
  expect((await readdir(directory)).filter((name) => name.startsWith("view-"))).toEqual(["view-1"]);
});
