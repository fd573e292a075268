import { describe, expect, test } from "vitest";
import type { File } from "../../../src/system/fs.js";
import { FaultyFileSystem, PowerCutError } from "./faulty_fs.js";

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");
const bytes = (value: string): Uint8Array => Buffer.from(value, "latin1");

async function withFile(contents: string): Promise<{ fs: FaultyFileSystem; file: File }> {
  const fs = new FaultyFileSystem(["/data"]);
  const file = await fs.open("/data/a", "create");
  await file.write([bytes(contents)], 0);
  await file.datasync();
  await fs.syncDirectory("/data");
  return { fs, file };
}

describe("a power loss on the faulty disk", () => {
  test("takes unsynced contents, or leaves them", async () => {
    const { fs, file } = await withFile("first");
    await file.write([bytes("sec"), bytes("ond!")], 2);
    expect(text(fs.contents("/data/a"))).toBe("fisecond!");
    expect(text(fs.crash({ keep: "none" }).contents("/data/a"))).toBe("first");
    expect(text(fs.crash({ keep: "all" }).contents("/data/a"))).toBe("fisecond!");
  });

  test("takes unsynced names, or leaves them", async () => {
    const { fs, file } = await withFile("kept");
    await fs.rename("/data/a", "/data/b");
    await fs.symlink("a note", "/data/c");
    await file.datasync();
    expect(await fs.crash({ keep: "none" }).list("/data")).toEqual(["a"]);
    const all = fs.crash({ keep: "all" });
    expect(await all.list("/data")).toEqual(["b", "c"]);
    await all.syncDirectory("/data");
    const after = all.crash({ keep: "none" });
    expect(text(after.contents("/data/b"))).toBe("kept");
    expect(await after.readLink("/data/c")).toBe("a note");
  });

  test("takes a directory whose own name was not synced, with all in it", async () => {
    const fs = new FaultyFileSystem(["/data"]);
    await fs.makeDirectory("/data/sub");
    const file = await fs.open("/data/sub/a", "create");
    await file.datasync();
    await fs.syncDirectory("/data/sub");
    expect(await fs.crash({ keep: "none" }).exists("/data/sub")).toBe(false);
    expect(await fs.crash({ keep: "all" }).exists("/data/sub/a")).toBe(true);
  });

  test("takes bytes that a sync has failed to write, even after later syncs, unless they were written again", async () => {
    const { fs, file } = await withFile("first---");
    await file.write([bytes("second--")], 0);
    fs.failCall("datasync");
    await expect(file.datasync()).rejects.toMatchObject({ code: "STORAGE_FAILED" });
    expect(text(fs.contents("/data/a"))).toBe("second--");
    await file.write([bytes("++")], 6);
    await file.datasync();
    expect(text(fs.contents("/data/a"))).toBe("second++");
    expect(text(fs.crash({ keep: "none" }).contents("/data/a"))).toBe("first-++");
  });

  test("leaves bytes that a sync has failed to write when they were written again and synced", async () => {
    const { fs, file } = await withFile("first");
    await file.write([bytes("second")], 0);
    fs.failCall("datasync");
    await expect(file.datasync()).rejects.toMatchObject({ code: "STORAGE_FAILED" });
    await file.write([bytes("second")], 0);
    await file.datasync();
    expect(text(fs.crash({ keep: "none" }).contents("/data/a"))).toBe("second");
  });

  test("at random keeps each sector as it was after some number of the writes to it", async () => {
    const { fs, file } = await withFile("0".repeat(2048));
    await file.write([bytes("1".repeat(2048))], 0);
    await file.write([bytes("2".repeat(1024))], 1024);
    const seen = new Set<string>();
    for (let run = 0; run < 200; run++) {
      const found = text(fs.crash({ keep: "random" }).contents("/data/a"));
      const sectors = [0, 512, 1024, 1536].map((at) => found.slice(at, at + 512));
      for (const sector of sectors) expect(new Set(sector).size).toBe(1);
      seen.add(sectors.map((sector) => sector[0]).join(""));
    }
    for (const outcome of seen) expect(outcome).toMatch(/^[01][01][012][012]$/);
    expect(seen.size).toBeGreaterThan(25);
  });

  test("ends every call, even on files that are open", async () => {
    const { fs, file } = await withFile("x");
    fs.crash({ keep: "all" });
    await expect(file.size()).rejects.toThrow(PowerCutError);
    await expect(fs.list("/data")).rejects.toThrow(PowerCutError);
  });
});

describe("cutPowerAfter", () => {
  test("lets a number of changing calls finish, and cuts the next one in the middle", async () => {
    const { fs, file } = await withFile("....");
    fs.cutPowerAfter(1);
    await file.write([bytes("1")], 0);
    await file.size();
    await expect(file.write([bytes("2")], 1)).rejects.toThrow(PowerCutError);
    expect(fs.powerIsOff).toBe(true);
    await expect(file.write([bytes("3")], 2)).rejects.toThrow(PowerCutError);
    expect(text(fs.crash({ keep: "all" }).contents("/data/a"))).toBe("12..");
    expect(text(fs.crash({ keep: "none" }).contents("/data/a"))).toBe("....");
  });

  test("makes nothing durable by a sync that it cuts", async () => {
    const { fs, file } = await withFile("old");
    await file.write([bytes("new")], 0);
    fs.cutPowerAfter(0);
    await expect(file.datasync()).rejects.toThrow(PowerCutError);
    expect(text(fs.crash({ keep: "none" }).contents("/data/a"))).toBe("old");
  });
});

describe("a fault of the faulty disk", () => {
  test("takes a part of a write when the disk is full, and overwriting needs no room", async () => {
    const { fs, file } = await withFile("12345");
    fs.capacityBytes = 8;
    await expect(file.write([bytes("abcdef")], 4)).rejects.toMatchObject({ code: "DISK_FULL" });
    expect(text(fs.contents("/data/a"))).toBe("1234abcd");
    await file.write([bytes("ABCDEFGH")], 0);
    await expect(file.truncate(9)).rejects.toMatchObject({ code: "DISK_FULL" });
    await file.truncate(2);
    await file.write([bytes("abcdef")], 2);
    expect(text(fs.contents("/data/a"))).toBe("ABabcdef");
    expect(fs.usedBytes).toBe(8);
  });

  test("fails the nth call of a kind once, without an effect", async () => {
    const { fs, file } = await withFile("a");
    fs.failCall("write", 2);
    fs.failCall("datasync");
    await file.write([bytes("b")], 0);
    await expect(file.write([bytes("c")], 0)).rejects.toMatchObject({ code: "EIO" });
    await expect(file.datasync()).rejects.toMatchObject({ code: "STORAGE_FAILED" });
    expect(text(fs.contents("/data/a"))).toBe("b");
    await file.datasync();
    expect(fs.calls.write).toBe(3);
    expect(fs.calls.datasync).toBe(3);
  });

  test("changes the disk when it is a flipped bit", async () => {
    const { fs } = await withFile("a");
    fs.flipBit("/data/a", 0, 1);
    expect(text(fs.crash({ keep: "none" }).contents("/data/a"))).toBe("c");
  });

  test("gives errors and open files as an operating system does", async () => {
    const { fs, file } = await withFile("a");
    await expect(fs.open("/data/a", "create")).rejects.toMatchObject({ code: "EEXIST" });
    await expect(fs.open("/data/b", "read")).rejects.toMatchObject({ code: "ENOENT" });
    await expect(fs.symlink("text", "/data/a")).rejects.toMatchObject({ code: "EEXIST" });
    const reader = await fs.open("/data/a", "read");
    await expect(reader.write([bytes("b")], 0)).rejects.toMatchObject({ code: "EBADF" });
    expect(fs.openFiles).toEqual(["/data/a", "/data/a"]);
    await reader.close();
    await file.close();
    expect(fs.openFiles).toEqual([]);
    await expect(file.size()).rejects.toMatchObject({ code: "EBADF" });
  });
});

describe("a direct call on the faulty disk", () => {
  async function withDirectFile(): Promise<{ fs: FaultyFileSystem; file: File }> {
    const { fs, file } = await withFile("first");
    fs.isDirect = () => true;
    file.allowDirect!();
    return { fs, file };
  }

  test("has its effect before the call returns, and waits for nobody", async () => {
    const { fs, file } = await withDirectFile();
    const written = file.write([bytes("other")], 0);
    expect(text(fs.crash({ keep: "all" }).contents("/data/a"))).toBe("other");
    await expect(written).resolves.toBeUndefined();
  });

  test("is durable only behind a sync, direct or not", async () => {
    const { fs, file } = await withDirectFile();
    void file.write([bytes("other")], 0);
    expect(text(fs.peek("/data", "none").contents("/data/a"))).toBe("first");
    void file.datasync();
    expect(text(fs.peek("/data", "none").contents("/data/a"))).toBe("other");
  });

  test("fails as any other call does: no room, no sync, no power", async () => {
    const { fs, file } = await withDirectFile();
    fs.capacityBytes = 5;
    await expect(file.write([bytes("longer")], 0)).rejects.toMatchObject({ code: "DISK_FULL" });
    fs.failCall("datasync");
    await expect(file.datasync()).rejects.toMatchObject({ code: "STORAGE_FAILED" });
    fs.cutPowerAfter(0);
    await expect(file.datasync()).rejects.toThrow(PowerCutError);
  });

  test("is none on a file that nobody allowed it for", async () => {
    const { fs, file } = await withFile("first");
    fs.isDirect = () => true;
    expect(file.isDirect).toBe(false);
    const written = file.write([bytes("other")], 0);
    expect(text(fs.peek("/data", "all").contents("/data/a"))).toBe("first");
    await written;
  });
});
