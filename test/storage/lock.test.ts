import { type ChildProcessWithoutNullStreams, execFile, spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { nodeFileSystem } from "../../src/storage/fs.js";
import { DirectoryLock } from "../../src/storage/lock.js";
import { failure } from "../support/conditions.js";
import { FaultyFileSystem } from "../support/faulty_fs.js";

const root = resolve(import.meta.dirname, "../..");
let compiled: string;

/** Other processes must run what is tested here, not what was built some time ago. */
beforeAll(async () => {
  compiled = await mkdtemp(join(tmpdir(), "cairn-lock-child-"));
  await writeFile(join(compiled, "package.json"), '{ "type": "module" }');
  const options = ["--ignoreConfig", "--module", "nodenext", "--target", "es2022", "--types", "node", "--skipLibCheck"];
  const child = join(root, "test/support/lock_child.ts");
  await promisify(execFile)(
    process.execPath,
    [join(root, "node_modules/typescript/bin/tsc"), ...options, "--rootDir", root, "--outDir", compiled, child],
    { cwd: root },
  );
});
afterAll(() => rm(compiled, { recursive: true, force: true }));

async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "cairn-lock-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** Another process that can take the lock. */
class Child {
  readonly #process: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;

  constructor(directory: string) {
    this.#process = spawn(process.execPath, [join(compiled, "test/support/lock_child.js"), directory]);
    this.#lines = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
    onTestFinished(() => this.kill());
  }

  get pid(): number {
    return this.#process.pid!;
  }

  async line(): Promise<string> {
    return (await this.#lines.next()).value;
  }

  say(word: "go" | "release"): void {
    this.#process.stdin.write(`${word}\n`);
  }

  async kill(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = new Promise((end) => this.#process.once("exit", end));
    this.#process.kill("SIGKILL");
    await ended;
  }
}

async function children(directory: string, count: number): Promise<Child[]> {
  const all = Array.from({ length: count }, () => new Child(directory));
  expect(await Promise.all(all.map((child) => child.line()))).toEqual(all.map(() => "ready"));
  return all;
}

async function locks(directory: string): Promise<string[]> {
  return (await readdir(directory)).sort();
}

async function holderOf(file: string): Promise<Record<string, unknown>> {
  return JSON.parse(await readFile(file, "utf8"));
}

test("it is taken, given back, and taken again, and only one file is left", async () => {
  const directory = await temporaryDirectory();
  for (let number = 1; number <= 3; number++) {
    const lock = await DirectoryLock.acquire(nodeFileSystem, directory);
    expect(await locks(directory)).toEqual([`lock.${number}`]);
    expect(await holderOf(join(directory, `lock.${number}`))).toMatchObject({ pid: process.pid, host: hostname() });
    await lock.release();
    await lock.release();
    expect(await holderOf(join(directory, `lock.${number}`))).toMatchObject({ released: true });
  }
});

describe("in this process", () => {
  test("a second lock is refused, also through another path to the directory", async () => {
    const directory = await temporaryDirectory();
    const lock = await DirectoryLock.acquire(nodeFileSystem, directory);
    const other = join(await temporaryDirectory(), "link");
    await symlink(directory, other);
    for (const path of [directory, other]) {
      await failure("DATA_DIRECTORY", DirectoryLock.acquire(nodeFileSystem, path), `${path} is in use by this process`);
    }
    await lock.release();
    await (await DirectoryLock.acquire(nodeFileSystem, other)).release();
  });

  test("of many at once, one is given", async () => {
    const directory = await temporaryDirectory();
    const attempts = await Promise.allSettled(
      Array.from({ length: 20 }, () => DirectoryLock.acquire(nodeFileSystem, directory)),
    );
    const won = attempts.filter((attempt) => attempt.status === "fulfilled");
    expect(won).toHaveLength(1);
    expect(await locks(directory)).toEqual(["lock.1"]);
    await won[0]!.value.release();
  });

  test("an abandoned one is taken over", async () => {
    const directory = await temporaryDirectory();
    (await DirectoryLock.acquire(nodeFileSystem, directory)).abandon();
    const lock = await DirectoryLock.acquire(nodeFileSystem, directory);
    expect(await locks(directory)).toEqual(["lock.2"]);
    await lock.release();
  });
});

describe("between processes", () => {
  test("a living process keeps it, a dead one does not", async () => {
    const directory = await temporaryDirectory();
    const [child] = await children(directory, 1);
    child!.say("go");
    expect(await child!.line()).toBe("held");
    await failure(
      "DATA_DIRECTORY",
      DirectoryLock.acquire(nodeFileSystem, directory),
      `is in use by pid ${child!.pid}. Stop`,
    );
    await child!.kill();
    const lock = await DirectoryLock.acquire(nodeFileSystem, directory);
    expect(await locks(directory)).toEqual(["lock.2"]);
    await lock.release();
  });

  test("one that was given back is free, though its process lives", async () => {
    const directory = await temporaryDirectory();
    const [child] = await children(directory, 1);
    child!.say("go");
    expect(await child!.line()).toBe("held");
    child!.say("release");
    expect(await child!.line()).toBe("released");
    await (await DirectoryLock.acquire(nodeFileSystem, directory)).release();
  });

  test("of several that race for the lock of a dead process, exactly one wins, each time", async () => {
    const directory = await temporaryDirectory();
    const racers = await children(directory, 5);
    for (let round = 0; round < 8 && racers.length > 1; round++) {
      // What is there is of a process that is dead: the winner of the round before, or nobody.
      for (const racer of racers) racer.say("go");
      const answers = await Promise.all(racers.map((racer) => racer.line()));
      expect(answers.filter((answer) => answer === "held")).toHaveLength(1);
      const winner = answers.indexOf("held");
      for (const [at, answer] of answers.entries()) {
        if (at !== winner) expect(answer).toContain(`is in use by pid ${racers[winner]!.pid}`);
      }
      expect(await locks(directory)).toHaveLength(1);
      await racers[winner]!.kill();
      racers.splice(winner, 1);
    }
    expect(racers).toHaveLength(1);
  });
});

describe("what a lock file may say", () => {
  const self = async (directory: string) => {
    const lock = await DirectoryLock.acquire(nodeFileSystem, directory);
    const holder = await holderOf(join(directory, (await locks(directory))[0]!));
    await lock.release();
    return holder;
  };

  test("a process of another host: refused, with what to do", async () => {
    const directory = await temporaryDirectory();
    const holder = { ...(await self(directory)), host: "elsewhere", token: "t" };
    await writeFile(join(directory, "lock.7"), JSON.stringify(holder));
    const error = await failure(
      "DATA_DIRECTORY",
      DirectoryLock.acquire(nodeFileSystem, directory),
      "on host elsewhere",
    );
    expect(error.message).toContain(`remove ${directory}/lock.7`);
    expect(await locks(directory)).toEqual(["lock.1", "lock.7"]);
  });

  test("a process that had the number of one that lives now: taken over", async () => {
    const directory = await temporaryDirectory();
    const [child] = await children(directory, 1);
    const holder = { ...(await self(directory)), pid: child!.pid, started: "another-boot/1", token: "t" };
    await writeFile(join(directory, "lock.7"), JSON.stringify(holder));
    const lock = await DirectoryLock.acquire(nodeFileSystem, directory);
    expect(await locks(directory)).toEqual(["lock.8"]);
    await lock.release();
  });

  test.each([
    ["nothing", ""],
    ["garbage", "{ half of"],
    ["something else", "[1]"],
    ["null", "null"],
  ])("%s, after a power failure: taken over", async (_what, text) => {
    const directory = await temporaryDirectory();
    await writeFile(join(directory, "lock.3"), text);
    const lock = await DirectoryLock.acquire(nodeFileSystem, directory);
    expect(await locks(directory)).toEqual(["lock.4"]);
    await lock.release();
  });
});

test("what dead processes left half-done is removed, what living ones are doing is not", async () => {
  const directory = await temporaryDirectory();
  const [dead, living] = await children(directory, 2);
  await dead!.kill();
  const names = [
    `lock-draft.${dead!.pid}.a`,
    `lock-draft.${living!.pid}.b`,
    `lock-draft.${process.pid}.c`,
    "lock.2.released",
  ];
  for (const name of names) await writeFile(join(directory, name), "");
  await writeFile(join(directory, "lock.4"), "");
  const lock = await DirectoryLock.acquire(nodeFileSystem, directory);
  expect(await locks(directory)).toEqual([`lock-draft.${living!.pid}.b`, "lock.5"]);
  await lock.release();
});

test("on a full disk it cannot be taken, and nothing is left; giving it back is no failure", async () => {
  const fs = new FaultyFileSystem(["/data"]);
  fs.capacityBytes = 10;
  await failure("DISK_FULL", DirectoryLock.acquire(fs, "/data"));
  expect(await fs.list("/data")).toEqual([]);
  fs.capacityBytes = 1000;
  const lock = await DirectoryLock.acquire(fs, "/data");
  fs.capacityBytes = fs.usedBytes;
  await lock.release();
  expect(await fs.list("/data")).toEqual(["lock.1"]);
  fs.capacityBytes = 1000;
  await (await DirectoryLock.acquire(fs, "/data")).release();
});
