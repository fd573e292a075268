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

describe("the file system makes for its user alone", () => {
  test("directories, their parents, and files, and leaves existing ones as they are", async () => {
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
  test("does nothing when it exists, and makes one when several ask at once", async () => {
    const directory = await temporaryDirectory();
    await Promise.all(Array.from({ length: 5 }, () => fs.makeDirectory(`${directory}/a/b/c`)));
    await fs.makeDirectory(`${directory}/a/b/c`);
    expect(await readdir(`${directory}/a/b`)).toEqual(["c"]);
  });

  test.runIf(process.platform === "linux")("ends with an error where none can be made", async () => {
    // Node's recursive mkdir never does.
    await expect(fs.makeDirectory("/proc/cairn/data")).rejects.toMatchObject({ code: "ENOENT" });
  });

  test.each(["a", "a/b/c"])("of %s says so when a file is in the way", async (path) => {
    const directory = await temporaryDirectory();
    await writeFile(`${directory}/a`, "");
    await failure("DATA_DIRECTORY", fs.makeDirectory(`${directory}/${path}`), `${directory}/a is not a directory`);
    await failure("DATA_DIRECTORY", fs.list(`${directory}/a`), `${directory}/a is not a directory`);
  });

  test("fails over a link that leads nowhere", async () => {
    const directory = await temporaryDirectory();
    await fs.symlink("nowhere", `${directory}/a`);
    await expect(fs.makeDirectory(`${directory}/a`)).rejects.toMatchObject({ code: "EEXIST" });
    await mkdir(`${directory}/nowhere`);
    await fs.makeDirectory(`${directory}/a/b`);
  });
});

describe("a read on the calling thread", () => {
  test("gives the bytes at a position, and fewer only at the end of the file", async () => {
    const directory = await temporaryDirectory();
    await writeFile(`${directory}/a`, "0123456789");
    const file = fs.openNow(`${directory}/a`);
    const buffer = Buffer.alloc(4);
    expect(file.readNow(buffer, 3)).toBe(4);
    expect(buffer.toString()).toBe("3456");
    expect(file.readNow(buffer, 8)).toBe(2);
    expect(buffer.toString()).toBe("8956");
    expect(file.readNow(buffer, 10)).toBe(0);
    file.closeNow();
    expect(() => file.readNow(buffer, 0)).toThrow("EBADF");
  });

  test("needs a file that exists", async () => {
    const directory = await temporaryDirectory();
    expect(() => fs.openNow(`${directory}/a`)).toThrow("ENOENT");
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
  ])("%s, which is %s, gets a code of Cairn", (_name, error, code, text) => {
    expect(fromWriteError(error, "writing /x")).toMatchObject({ code, text: expect.stringContaining(text) });
  });

  test("stays as it is when Cairn has no better code for it", () => {
    const error = systemError("EIO", EIO);
    expect(fromWriteError(error, "writing /x")).toBe(error);
  });
});

test("a small file that does not fit on the disk leaves nothing behind", async () => {
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
