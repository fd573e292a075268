import { type ChildProcessWithoutNullStreams, execFile, spawn, spawnSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, readlink, rm, stat, symlink, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { CairnError } from "../../src/base/errors.js";
import { DirectoryLock } from "../../src/storage/lock.js";
import { type FileSystem, nodeFileSystem } from "../../src/system/fs.js";
import { livenessAt, systemBoot } from "../../src/system/liveness.js";
import { deferred, failure } from "../support/conditions.js";
import { FaultyFileSystem } from "../support/disk/faulty_fs.js";

const root = resolve(import.meta.dirname, "../..");
let compiled: string;

/** Other processes must run what is tested here, not what was built some time ago. */
beforeAll(async () => {
  compiled = await mkdtemp(join(tmpdir(), "cairn-lock-child-"));
  await writeFile(join(compiled, "package.json"), '{ "type": "module" }');
  const options = ["--ignoreConfig", "--module", "nodenext", "--target", "es2023", "--types", "node", "--skipLibCheck"];
  const child = join(root, "test/support/processes/lock_child.ts");
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

/** For what must not be waited for. */
const never = (text: string): never => {
  throw new Error(`nothing was to be said: ${text}`);
};

/** As root, where the machine lets one. */
function canUnshare(): boolean {
  return spawnSync("unshare", ["--pid", "--fork", "--uts", "--mount-proc", "true"]).status === 0;
}

/** Another process that can take the lock. */
class Child {
  readonly #process: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;

  /** `within`: a command that runs the one that follows it. */
  constructor(directory: string, within: readonly string[] = []) {
    const [command, ...rest] = [
      ...within,
      process.execPath,
      join(compiled, "test/support/processes/lock_child.js"),
      directory,
    ];
    this.#process = spawn(command!, rest);
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

  /** Stands still. */
  stop(): void {
    this.#process.kill("SIGSTOP");
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

/** Names in a directory; what shows that a process lives goes by its kind. */
async function locks(directory: string): Promise<string[]> {
  return (await readdir(directory)).map((name) => name.replace(/^lock-[0-9a-f]{12}\./, "lock-*.")).sort();
}

const HELD = ["lock-*.beat", "lock-*.sock"];

test("the lock of a directory is taken, released and taken again, and only one file is left", async () => {
  const directory = await temporaryDirectory();
  for (let number = 1; number <= 3; number++) {
    const lock = await DirectoryLock.acquire(nodeFileSystem, directory);
    expect(await locks(directory)).toEqual([...HELD, `lock.${number}`]);
    const text = await readlink(join(directory, `lock.${number}`));
    expect(text).toMatch(new RegExp(`^2:[0-9a-f]{12}:[0-9a-f]{12}:${process.pid}:[0-9a-z]+:[0-9a-z]+:s$`));
    // More would take a block on some file systems, which a full disk has not.
    expect(text.length).toBeLessThan(60);
    await lock.release();
    await lock.release();
    expect(await locks(directory)).toEqual([`lock.${number}`]);
    expect(await readlink(join(directory, `lock.${number}`))).toBe("2:released");
  }
});

test("the file of the lock can be read only by its user", async () => {
  const directory = await temporaryDirectory();
  const lock = await DirectoryLock.acquire(nodeFileSystem, directory);
  for (const name of (await readdir(directory)).filter((name) => name.startsWith("lock-"))) {
    expect((await stat(join(directory, name))).mode & 0o777, name).toBe(0o600);
  }
  await lock.release();
});

describe("a lock held in this process", () => {
  test("refuses a second one, even through another path to the directory", async () => {
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

  test("is given once when many ask at the same time", async () => {
    const directory = await temporaryDirectory();
    const attempts = await Promise.allSettled(
      Array.from({ length: 20 }, () => DirectoryLock.acquire(nodeFileSystem, directory)),
    );
    const won = attempts.filter((attempt) => attempt.status === "fulfilled");
    expect(won).toHaveLength(1);
    expect(await locks(directory)).toEqual([...HELD, "lock.1"]);
    await won[0]!.value.release();
  });

  test("is taken over when it was abandoned", async () => {
    const directory = await temporaryDirectory();
    (await DirectoryLock.acquire(nodeFileSystem, directory)).abandon();
    const lock = await DirectoryLock.acquire(nodeFileSystem, directory);
    expect(await locks(directory)).toEqual([...HELD, "lock.2"]);
    await lock.release();
  });
});

describe("a lock held by another process", () => {
  test("is kept while the process lives, and not when it is dead", async () => {
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
    // The dead one's are gone.
    expect(await locks(directory)).toEqual([...HELD, "lock.2"]);
    await lock.release();
  });

  test("is free after its release, even when the process lives", async () => {
    const directory = await temporaryDirectory();
    const [child] = await children(directory, 1);
    child!.say("go");
    expect(await child!.line()).toBe("held");
    child!.say("release");
    expect(await child!.line()).toBe("released");
    await (await DirectoryLock.acquire(nodeFileSystem, directory)).release();
  });

  test("is taken over from a dead process by exactly one of several that race, each time", async () => {
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
      const left = (await locks(directory)).filter((name) => name.startsWith("lock."));
      expect(left).toHaveLength(1);
      await racers[winner]!.kill();
      racers.splice(winner, 1);
    }
    expect(racers).toHaveLength(1);
  });
});

/** Another machine, with quick beats to watch. */
function anotherMachine(standstillMs: number): FileSystem {
  const whereabouts = { boot: "another", pidNamespace: "4026531836", started: () => "1" };
  return { ...nodeFileSystem, liveness: livenessAt(whereabouts, { beatMs: 100, standstillMs }) };
}

/** Another container of this machine: the same kernel, other process ids. */
const anotherContainer: FileSystem = {
  ...nodeFileSystem,
  liveness: livenessAt({
    boot: systemBoot,
    pidNamespace: "4026539999",
    started: (pid) => (pid === process.pid ? "77" : undefined),
  }),
};

describe("a lock held in another container of the same machine", () => {
  test("is kept while the process lives, even when it is suspended, and free as soon as it is killed", async () => {
    const directory = await temporaryDirectory();
    const [child] = await children(directory, 1);
    child!.say("go");
    expect(await child!.line()).toBe("held");
    const refused = () =>
      failure("DATA_DIRECTORY", DirectoryLock.acquire(anotherContainer, directory, { say: never }), "is in use by");
    await refused();
    child!.stop();
    await refused();
    await child!.kill();
    const lock = await DirectoryLock.acquire(anotherContainer, directory, { say: never });
    expect(await locks(directory)).toEqual([...HELD, "lock.2"]);
    await lock.release();
  });

  test("works in a directory with a long name", async () => {
    const directory = join(await temporaryDirectory(), "d".repeat(200));
    await mkdir(directory);
    const [child] = await children(directory, 1);
    child!.say("go");
    expect(await child!.line()).toBe("held");
    await failure("DATA_DIRECTORY", DirectoryLock.acquire(anotherContainer, directory, { say: never }), "is in use by");
    await child!.kill();
    await (await DirectoryLock.acquire(anotherContainer, directory, { say: never })).release();
  });

  test("is given to one of several that race from different containers", async () => {
    const directory = await temporaryDirectory();
    const attempts = await Promise.allSettled(
      [nodeFileSystem, anotherContainer, nodeFileSystem, anotherContainer].map((fs) =>
        DirectoryLock.acquire(fs, directory),
      ),
    );
    expect(attempts.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    for (const attempt of attempts) if (attempt.status === "fulfilled") await attempt.value.release();
  });

  test.runIf(canUnshare())(
    "is refused while the process lives and given when it is killed, with real namespaces and another host name",
    async () => {
      const directory = await temporaryDirectory();
      const [child] = await children(directory, 1);
      child!.say("go");
      expect(await child!.line()).toBe("held");
      const inContainer = () =>
        new Child(directory, [
          "unshare",
          "--pid",
          "--fork",
          "--kill-child",
          "--uts",
          "--mount-proc",
          "sh",
          "-c",
          'hostname another && exec "$0" "$@"',
        ]);
      const second = inContainer();
      expect(await second.line()).toBe("ready");
      second.say("go");
      expect(await second.line()).toContain(`is in use by pid ${child!.pid}`);
      await child!.kill();
      second.say("go");
      expect(await second.line()).toBe("held");
      // And the other way round: its pid there is 1 or little more, which is another process's here.
      await failure(
        "DATA_DIRECTORY",
        DirectoryLock.acquire(nodeFileSystem, directory, { say: never }),
        "on host another",
      );
      await second.kill();
      const third = inContainer();
      expect(await third.line()).toBe("ready");
      third.say("go");
      expect(await third.line()).toBe("held");
    },
  );
});

describe("a lock held on another machine, or on this one before its restart", () => {
  test("shows a sign of life, and is not taken over while it does", async () => {
    const directory = await temporaryDirectory();
    const [child] = await children(directory, 1);
    child!.say("go");
    expect(await child!.line()).toBe("held");
    const said: string[] = [];
    const text = `is in use by pid ${child!.pid}`;
    await failure(
      "DATA_DIRECTORY",
      DirectoryLock.acquire(anotherMachine(10_000), directory, { say: (line) => said.push(line) }),
      text,
    );
    expect(said).toEqual([expect.stringContaining("waiting for up to 10 s")]);
  });

  test("is taken over after a wait without a sign of life, and both are reported", async () => {
    const directory = await temporaryDirectory();
    const [child] = await children(directory, 1);
    child!.say("go");
    expect(await child!.line()).toBe("held");
    await child!.kill();
    const said: string[] = [];
    const lock = await DirectoryLock.acquire(anotherMachine(500), directory, { say: (line) => said.push(line) });
    expect(said).toEqual([
      expect.stringContaining("waiting for up to 0.5 s"),
      expect.stringContaining("counts as dead"),
    ]);
    await lock.release();
  });

  test("is taken at once when it was released", async () => {
    const directory = await temporaryDirectory();
    await (await DirectoryLock.acquire(anotherMachine(500), directory)).release();
    await (await DirectoryLock.acquire(nodeFileSystem, directory, { say: never })).release();
  });

  test("notices that it was taken over while its process was paused, and leaves it alone", async () => {
    const directory = await temporaryDirectory();
    const first = await DirectoryLock.acquire(anotherMachine(500), directory);
    const lost = deferred<CairnError>();
    first.onLost(lost.resolve);
    // As if this process had stood still: another takes the next number.
    await symlink("2:boot:token:1:::", join(directory, "lock.2"));
    expect((await lost.promise).text).toContain("another process has taken");
    await first.release();
    expect(await readlink(join(directory, "lock.2"))).toBe("2:boot:token:1:::");
  });
});

describe("a lock file of version 0.1", () => {
  const old = { pid: process.pid, host: hostname(), started: "", token: "t" };

  test("of a process on another host is refused with advice", async () => {
    const directory = await temporaryDirectory();
    await writeFile(join(directory, "lock.7"), JSON.stringify({ ...old, host: "elsewhere" }));
    const error = await failure(
      "DATA_DIRECTORY",
      DirectoryLock.acquire(nodeFileSystem, directory),
      "on host elsewhere",
    );
    expect(error.message).toContain(`remove ${directory}/lock.7`);
    expect(await locks(directory)).toEqual(["lock.7"]);
  });

  test("is refused while its process lives, and taken over when another process has the number", async () => {
    const directory = await temporaryDirectory();
    const [child] = await children(directory, 1);
    await writeFile(join(directory, "lock.7"), JSON.stringify({ ...old, pid: child!.pid }));
    await failure("DATA_DIRECTORY", DirectoryLock.acquire(nodeFileSystem, directory), `in use by pid ${child!.pid}`);
    await writeFile(join(directory, "lock.7"), JSON.stringify({ ...old, pid: child!.pid, started: "another-boot/1" }));
    const lock = await DirectoryLock.acquire(nodeFileSystem, directory);
    expect(await locks(directory)).toEqual([...HELD, "lock.8"]);
    await lock.release();
  });

  test.each([
    ["a released one", JSON.stringify({ ...old, host: "elsewhere", released: true })],
    ["nothing", ""],
    ["garbage", "{ half of"],
    ["something else", "[1]"],
    ["null", "null"],
  ])("is taken over when it is %s", async (_what, text) => {
    const directory = await temporaryDirectory();
    await writeFile(join(directory, "lock.3"), text);
    const lock = await DirectoryLock.acquire(nodeFileSystem, directory);
    expect(await locks(directory)).toEqual([...HELD, "lock.4"]);
    await lock.release();
  });
});

test("a lock file of a later version is refused", async () => {
  const directory = await temporaryDirectory();
  await symlink("3:whatever", join(directory, "lock.3"));
  await failure("DATA_DIRECTORY", DirectoryLock.acquire(nodeFileSystem, directory), "cannot read");
});

test("files that dead processes have left are removed, and those of living ones are kept", async () => {
  const directory = await temporaryDirectory();
  const [dead, living] = await children(directory, 2);
  dead!.say("go");
  expect(await dead!.line()).toBe("held");
  await dead!.kill();
  await writeFile(join(directory, "lock-draft.1.a"), "");
  await writeFile(join(directory, "lock.0.released"), "");
  await writeFile(join(directory, "lock-0123456789ab.beat"), "");
  living!.say("go");
  expect(await living!.line()).toBe("held");
  expect(await locks(directory)).toEqual([...HELD, "lock.2"]);
  // One that has come too late, and tidies nothing.
  await failure("DATA_DIRECTORY", DirectoryLock.acquire(nodeFileSystem, directory), "is in use by");
  expect(await locks(directory)).toEqual([...HELD, "lock.2"]);
});

test("the lock can be taken and released on a full disk", async () => {
  const fs = new FaultyFileSystem(["/data"]);
  fs.capacityBytes = 0;
  const lock = await DirectoryLock.acquire(fs, "/data");
  await lock.release();
  expect(fs.links()).toEqual(new Map([["/data/lock.1", "2:released"]]));
});
