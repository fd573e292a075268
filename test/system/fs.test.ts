import { chmod, mkdir, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { fromWriteError, nodeFileSystem as fs, writeSmallFile } from "../../src/system/fs.js";
import { failure } from "../support/conditions.js";

async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "cairn-fs-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

const modeOf = async (path: string) => (await stat(path)).mode & 0o777;

describe("what it makes is for its user alone", () => {
  test("directories, also those above, and files; what was there is left as it is", async () => {
    const directory = await temporaryDirectory();
    await chmod(directory, 0o755);
    await fs.makeDirectory(`${directory}/a/b`);
    await writeSmallFile(fs, `${directory}/a/b`, "c", Buffer.from("text"));
    expect(await modeOf(directory)).toBe(0o755);
    expect(await modeOf(`${directory}/a`)).toBe(0o700);
    expect(await modeOf(`${directory}/a/b`)).toBe(0o700);
    expect(await modeOf(`${directory}/a/b/c`)).toBe(0o600);
  });
});

describe("making a directory", () => {
  test("that is there does nothing; several at once make one", async () => {
    const directory = await temporaryDirectory();
    await Promise.all(Array.from({ length: 5 }, () => fs.makeDirectory(`${directory}/a/b/c`)));
    await fs.makeDirectory(`${directory}/a/b/c`);
    expect(await readdir(`${directory}/a/b`)).toEqual(["c"]);
  });

  test.runIf(process.platform === "linux")("where none can be made ends, with an error", async () => {
    // Node's recursive mkdir never does.
    await expect(fs.makeDirectory("/proc/cairn/data")).rejects.toMatchObject({ code: "ENOENT" });
  });

  test.each(["a", "a/b/c"])("%s, where a file is in the way, says so", async (path) => {
    const directory = await temporaryDirectory();
    await writeFile(`${directory}/a`, "");
    await failure("DATA_DIRECTORY", fs.makeDirectory(`${directory}/${path}`), `${directory}/a is not a directory`);
    await failure("DATA_DIRECTORY", fs.list(`${directory}/a`), `${directory}/a is not a directory`);
  });

  test("over a link that leads nowhere fails", async () => {
    const directory = await temporaryDirectory();
    await fs.symlink("nowhere", `${directory}/a`);
    await expect(fs.makeDirectory(`${directory}/a`)).rejects.toMatchObject({ code: "EEXIST" });
    await mkdir(`${directory}/nowhere`);
    await fs.makeDirectory(`${directory}/a/b`);
  });
});

describe("an error of the operating system", () => {
  /** As Node reports what it has a name for, or has none for. */
  const systemError = (code: string, errno: number) => Object.assign(new Error(code), { code, errno: -errno });
  const { ENOSPC, EDQUOT, EMFILE, ENFILE, EIO } = constants.errno;

  test.each([
    ["ENOSPC", systemError("ENOSPC", ENOSPC), "DISK_FULL", "no space left"],
    ["EDQUOT", systemError(`Unknown system error -${EDQUOT}`, EDQUOT), "DISK_FULL", "the disk quota is used up"],
    ["EMFILE", systemError("EMFILE", EMFILE), "BUSY", "too many open files"],
    ["ENFILE", systemError("ENFILE", ENFILE), "BUSY", "too many open files"],
  ])("%s is %s", (_name, error, code, text) => {
    expect(fromWriteError(error, "writing /x")).toMatchObject({ code, text: expect.stringContaining(text) });
  });

  test("that Cairn knows nothing better about stays what it is", () => {
    const error = systemError("EIO", EIO);
    expect(fromWriteError(error, "writing /x")).toBe(error);
  });
});

test("a small file that does not fit leaves nothing behind", async () => {
  const directory = await temporaryDirectory();
  const full = Object.assign(Object.create(fs), {
    open: async (path: string, mode: "create") => {
      const file = await fs.open(path, mode);
      file.write = () => Promise.reject(fromWriteError({ code: "ENOSPC" }, "writing"));
      return file;
    },
  });
  await failure("DISK_FULL", writeSmallFile(full, directory, "a", Buffer.from("text")));
  expect(await readdir(directory)).toEqual([]);
});
