import { describe, expect, test } from "vitest";
import { type Claim, checkFounders, claimDirectory, replaceDirectory, turnDirectory } from "../../src/daemon/claim.js";
import { DataDirectory } from "../../src/storage/data_dir.js";
import type { Identity } from "../../src/storage/identity.js";
import { partFileName } from "../../src/storage/snapshots/file_names.js";
import { failure } from "../support/conditions.js";
import { FaultyFileSystem, type Keep } from "../support/disk/faulty_fs.js";

const PATH = "/data/n1";
const founders = ["n1", "n2"].map((name) => ({ name, address: `${name}:1` }));
const members = founders.map(({ name, address }) => ({ id: name, address, role: "voter" as const }));

const byList: Claim = { name: "n1", cameBy: "cluster", founders, alone: [] };
const contacts = [{ id: "n2", address: "n2:1", role: "voter" as const }];
const keeps: readonly Keep[] = ["none", "random", "all"];

function newDisk(): FaultyFileSystem {
  return new FaultyFileSystem(["/data"]);
}

/** A directory with an identity, and with data in it. */
async function used(claim: Claim = byList): Promise<{ fs: FaultyFileSystem; identity: Identity }> {
  const fs = newDisk();
  const identity = await claimDirectory(fs, PATH, claim, true);
  for (const part of ["wal", "snapshots"]) await fs.makeDirectory(`${PATH}/${part}`);
  fs.setContents(`${PATH}/wal/1.wal`, Buffer.from("entries"));
  await fs.syncDirectory(PATH);
  return { fs, identity };
}

/**
 * Cuts the power at each call of a change, in each way that the disk may keep what was not synced, and hands in what is found then. Returns how many
 * calls there are.
 */
async function cutAtEachCall(
  prepare: () => Promise<FaultyFileSystem>,
  change: (fs: FaultyFileSystem) => Promise<unknown>,
  check: (fs: FaultyFileSystem, isDone: boolean) => Promise<void>,
  ways: readonly Keep[] = keeps,
): Promise<number> {
  for (let calls = 0; ; calls++) {
    let isDone = false;
    for (const keep of ways) {
      const fs = await prepare();
      fs.cutPowerAfter(calls);
      isDone = await change(fs).then(
        () => true,
        () => false,
      );
      let seed = calls;
      const random = () => {
        seed = (seed * 16807 + 11) % 2147483647;
        return seed / 2147483647;
      };
      await check(fs.crash({ keep, random }), isDone);
    }
    if (isDone) return calls;
  }
}

describe("a new directory", () => {
  test("draws an incarnation of its own (T1)", async () => {
    const one = await claimDirectory(newDisk(), PATH, byList, true);
    const other = await claimDirectory(newDisk(), PATH, byList, true);
    expect(one.incarnation).toMatch(/^[0-9a-f]{32}$/);
    expect(other.incarnation).not.toBe(one.incarnation);
  });

  test("belongs to the cluster named after it when it is the founder's, and to none otherwise (T2)", async () => {
    const first = await claimDirectory(newDisk(), PATH, byList, true);
    expect(first).toMatchObject({ nodeId: "n1", cameBy: "cluster", members, clusterId: first.incarnation });
    const second = await claimDirectory(newDisk(), PATH, { ...byList, name: "n2" }, true);
    expect(second.clusterId).toBe("");
  });

  test("knows no member and belongs to no cluster when it is told to join", async () => {
    const joiner = await claimDirectory(newDisk(), PATH, { ...byList, cameBy: "join", founders: undefined }, true);
    expect(joiner).toMatchObject({ cameBy: "join", members: [], clusterId: "" });
  });

  test("refuses a given cluster id", async () => {
    const claimed = claimDirectory(newDisk(), PATH, { ...byList, clusterId: "c1" }, true);
    await failure("INVALID_ARGUMENT", claimed, "Leave it out");
  });

  test("has one incarnation or none, wherever the power fails during the claim, and the next claim completes it (T1)", async () => {
    const calls = await cutAtEachCall(
      async () => newDisk(),
      (fs) => claimDirectory(fs, PATH, byList, true),
      async (fs, isDone) => {
        const found = await DataDirectory.identityAt(fs, PATH);
        if (isDone) expect(found).toBeDefined();
        const claimed = await claimDirectory(fs, PATH, byList, true);
        if (found !== undefined) expect(claimed).toEqual(found);
      },
    );
    expect(calls).toBeGreaterThan(5);
  });
});

test("a directory with an owner stays as it is, and refuses another name", async () => {
  const { fs, identity } = await used();
  expect(await claimDirectory(fs, PATH, byList, true)).toEqual(identity);
  const claimed = claimDirectory(fs, PATH, { ...byList, name: "n2" }, true);
  await failure("DATA_DIRECTORY", claimed, "belongs to node n1, not to n2");
});

test("the founders of a cluster are those that its directory names", async () => {
  const { identity } = await used();
  expect(() => checkFounders(PATH, identity, founders.toReversed())).not.toThrow();
  expect(() => checkFounders(PATH, identity, undefined)).not.toThrow();
  expect(() => checkFounders(PATH, identity, founders.slice(0, 1))).toThrow("was created with n1=n1:1,n2=n2:1");
});

describe("a new directory that turns to a cluster", () => {
  test("takes the cluster's id and base, and another incarnation when it is renewed (T2)", async () => {
    const base = { index: 3, term: 1, sha256: "ab".repeat(32) };
    const { fs, identity } = await used();
    const kept = await turnDirectory(fs, PATH, { clusterId: "c9", base, isRenewed: false });
    expect(kept).toEqual({ ...identity, clusterId: "c9", base });
    const renewed = await turnDirectory(fs, PATH, { clusterId: "", base, isRenewed: true });
    expect(renewed.incarnation).not.toBe(identity.incarnation);
    // It founds: the cluster is named after it.
    expect(renewed.clusterId).toBe(renewed.incarnation);
  });

  test("keeps nothing of a half-received snapshot, which is another cluster's (T2)", async () => {
    const { fs } = await used();
    const part = partFileName({ index: 168, term: 2 }, new Uint8Array(32));
    fs.setContents(`${PATH}/snapshots/${part}`, Buffer.from("half"));
    await turnDirectory(fs, PATH, { clusterId: "c9", base: undefined, isRenewed: false });
    expect(await fs.list(`${PATH}/snapshots`)).toEqual([]);
    expect(await fs.list(`${PATH}/wal`)).toEqual(["1.wal"]);
  });

  test("is the old one or the new one, wherever the power fails (T2)", async () => {
    let before: Identity | undefined;
    const turned = new Set<string>();
    const calls = await cutAtEachCall(
      async () => {
        const { fs, identity } = await used();
        before = identity;
        return fs;
      },
      (fs) => turnDirectory(fs, PATH, { clusterId: "c9", base: undefined, isRenewed: true }),
      async (fs, isDone) => {
        const found = (await DataDirectory.identityAt(fs, PATH))!;
        turned.add(found.clusterId === "c9" ? "new" : "old");
        if (found.clusterId === "c9") expect(found.incarnation).not.toBe(before!.incarnation);
        else expect(found).toEqual(before);
        if (isDone) expect(found.clusterId).toBe("c9");
      },
    );
    expect(calls).toBeGreaterThan(5);
    expect([...turned].sort()).toEqual(["new", "old"]);
  });
});

describe("a directory that has lost data (T3)", () => {
  test("is set aside without being deleted, and a new incarnation that founds nothing takes its place", async () => {
    const { fs, identity } = await used();
    const aside = await replaceDirectory(fs, PATH, contacts);
    expect(Buffer.from(fs.contents(`${aside}/wal/1.wal`)).toString()).toBe("entries");
    expect(fs.names(PATH)).not.toContain("wal");
    const found = (await DataDirectory.identityAt(fs, PATH))!;
    const { clusterId } = identity;
    expect(found).toMatchObject({ cameBy: "return", members: contacts, clusterId, retired: false, complete: false });
    expect(found.incarnation).not.toBe(identity.incarnation);
  });

  test("takes the mark of its log's end along, so that the next directory has lost nothing", async () => {
    const { fs } = await used();
    fs.setContents(`${PATH}/stopped.json`, Buffer.from('{"index":21,"term":3}\n'));
    const aside = await replaceDirectory(fs, PATH, contacts);
    expect(fs.names(PATH)).not.toContain("stopped.json");
    expect(fs.names(aside)).toContain("stopped.json");
  });

  test("keeps its data when another directory of the same node loses data later", async () => {
    const { fs } = await used();
    const first = await replaceDirectory(fs, PATH, contacts);
    await fs.makeDirectory(`${PATH}/wal`);
    fs.setContents(`${PATH}/wal/1.wal`, Buffer.from("more"));
    const second = await replaceDirectory(fs, PATH, contacts);
    expect(second).not.toBe(first);
    expect(Buffer.from(fs.contents(`${first}/wal/1.wal`)).toString()).toBe("entries");
    expect(Buffer.from(fs.contents(`${second}/wal/1.wal`)).toString()).toBe("more");
  });

  test("is the old one, retired or not, or a new one, wherever the power fails, and its data is kept until the next claim finishes", async () => {
    let before: Identity | undefined;
    const calls = await cutAtEachCall(
      async () => {
        const { fs, identity } = await used();
        before = identity;
        return fs;
      },
      (fs) => replaceDirectory(fs, PATH, contacts),
      async (fs, isDone) => {
        const found = (await DataDirectory.identityAt(fs, PATH))!;
        const isOld = found.incarnation === before!.incarnation;
        const data = [...fs.image()].filter(([path]) => path.endsWith("/wal/1.wal")).map(([, bytes]) => bytes);
        expect(data.map((bytes) => Buffer.from(bytes).toString())).toContain("entries");
        // Whose data was taken away is never started on again as if nothing were lost.
        if (isOld && !fs.names(PATH).includes("wal")) expect(found.retired).toBe(true);
        if (isDone) expect(isOld).toBe(false);
        const claimed = await claimDirectory(fs, PATH, byList, true);
        if (isOld && !found.retired) expect(claimed).toEqual(before);
        else {
          expect(claimed).toMatchObject({ cameBy: "return", members: contacts, retired: false });
          expect(claimed.incarnation).not.toBe(before!.incarnation);
          expect(fs.names(PATH)).not.toContain("wal");
        }
      },
      // A disk with a journal moves a name from one directory to another at once; this one keeps each directory's changes apart.
      ["none", "all"],
    );
    expect(calls).toBeGreaterThan(10);
  });
});
