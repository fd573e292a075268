import { mkdir, readdir, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { AdminService } from "../../gen/cairn/v1/admin_pb.js";
import { createClient } from "../../src/transport/bridge_client.js";
import { runCommand, startCommand, startNode } from "../support/processes.js";
import { temporaryDirectory } from "./support.js";

describe("cairn start", () => {
  test("says where it listens, as text", async () => {
    const data = await temporaryDirectory();
    const node = startCommand(["start", "--id", "a", "--data", data, "--listen", "127.0.0.1:0", "--cluster-id", "c-1"]);
    const line = await node.nextLine();
    expect(line).toMatch(/^node a of cluster c-1 listens on 127\.0\.0\.1:[1-9]\d*, data in /);
    expect(line).toContain(data);
  });

  test("--json prints one object, and the node answers there", async () => {
    const data = await temporaryDirectory();
    const node = startCommand(["start", "--id", "a", "--data", data, "--listen", "127.0.0.1:0", "--json"]);
    const said = JSON.parse(await node.nextLine());
    expect(said).toEqual({ event: "listening", node: "a", cluster: said.cluster, address: said.address, data });
    const admin = createClient(AdminService, said.address);
    const status = await admin.getStatus({}).finally(() => admin.close());
    expect(status).toMatchObject({ nodeId: "a", clusterId: said.cluster });
    expect(await node.kill("SIGTERM")).toEqual({ code: 0, signal: null });
    expect(node.stdout.trimEnd().split("\n")).toHaveLength(1);
  });

  test.each(["SIGINT", "SIGTERM"] as const)(
    "%s stops it cleanly: exit 0, and the directory is free",
    async (signal) => {
      const data = await temporaryDirectory();
      const node = await startNode({ id: "a", data });
      expect(await node.kill(signal)).toEqual({ code: 0, signal: null });
      expect(node.command.stderr).toBe("");
      const again = await startNode({ id: "a", data });
      expect(await again.kill(signal)).toEqual({ code: 0, signal: null });
    },
  );

  test("after kill -9 the directory is free, too", async () => {
    const data = await temporaryDirectory();
    const node = await startNode({ id: "a", data });
    expect(await node.kill()).toEqual({ code: null, signal: "SIGKILL" });
    const again = await startNode({ id: "a", data });
    expect(again.address).toMatch(/^127\.0\.0\.1:\d+$/);
  });

  test.runIf(process.platform === "linux")("ends, with what to do, where its directory cannot be made", async () => {
    const { code, stderr } = await runCommand(["start", "--id", "a", "--data", "/proc/cairn/a"]);
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^cairn: \[DATA_DIRECTORY\] data directory \/proc\/cairn\/a cannot be made: .* Give one that this user may write in\.\n$/,
    );
  });

  test("what it makes is for its user alone", async () => {
    const data = join(await temporaryDirectory(), "data");
    const node = await startNode({ id: "a", data });
    const made = await readdir(data, { recursive: true, withFileTypes: true });
    for (const entry of made.filter((entry) => !entry.isSymbolicLink())) {
      const path = join(entry.parentPath, entry.name);
      expect((await stat(path)).mode & 0o777, path).toBe(entry.isDirectory() ? 0o700 : 0o600);
    }
    expect(made.map(({ name }) => name)).toContain("data.mdb");
    expect((await stat(data)).mode & 0o777).toBe(0o700);
    expect(await node.kill("SIGTERM")).toEqual({ code: 0, signal: null });
  });

  test("waits for a sign of life of a process that it cannot see, says so, and can be stopped meanwhile", async () => {
    const data = await temporaryDirectory();
    await symlink("2:another-boot:0123456789ab:77:::s", join(data, "lock.1"));
    const node = startCommand(["start", "--id", "a", "--data", data, "--listen", "127.0.0.1:0"]);
    await node.waitFor(/waiting for up to 15 s/);
    expect(await node.kill("SIGTERM")).toEqual({ code: 0, signal: null });
    const again = startCommand(["start", "--id", "a", "--data", data, "--listen", "127.0.0.1:0"]);
    expect(await again.nextLine()).toContain("listens on");
    expect(again.stderr).toContain("counts as dead");
  });

  test.each([
    ["--id is no name", ["--id", "a b"], /1 to 64 characters of A-Z a-z 0-9/],
    ["--cluster-id is no name", ["--cluster-id", ""], /1 to 64 characters of A-Z a-z 0-9/],
    ["--data is empty", ["--data", ""], /must not be empty/],
    ["--listen has no port", ["--listen", "localhost"], /expected host:port/],
    ["--listen has a port that is none", ["--listen", "127.0.0.1:99999"], /port from 0 to 65535/],
    ["--segment-bytes is less than two entries", ["--segment-bytes", "1000"], /expected a whole number from/],
  ])("exits 2 and makes no data directory when %s", async (_, args, text) => {
    const data = join(await temporaryDirectory(), "data");
    const { code, stdout, stderr } = await runCommand(["start", "--id", "a", "--data", data, ...args]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(text);
    await expect(readdir(data)).rejects.toMatchObject({ code: "ENOENT" });
  });

  describe("exits 1 and says what to do", () => {
    const fails = async (args: readonly string[], text: RegExp) => {
      const { code, stdout, stderr } = await runCommand(["start", ...args]);
      expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
      expect(stderr).toMatch(text);
      expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    };

    test.each([
      [
        "a host that is none",
        "no.such.host.invalid:0",
        /cannot listen on no\.such\.host\.invalid:0.*Give a free host:port/,
      ],
    ])("when --listen has %s", async (_, listen, text) => {
      await fails(["--id", "a", "--data", await temporaryDirectory(), "--listen", listen], text);
    });

    test("when the port is in use", async () => {
      const node = await startNode({ id: "a", data: await temporaryDirectory() });
      const data = await temporaryDirectory();
      await fails(
        ["--id", "b", "--data", data, "--listen", node.address],
        /the address is in use.*Give a free host:port.*--listen/,
      );
      // And the directory is not left locked.
      await startNode({ id: "b", data });
    });

    test("when the data directory is in use, and by whom", async () => {
      const data = await temporaryDirectory();
      const node = await startNode({ id: "a", data });
      const text = new RegExp(`in use by pid ${node.pid}\\. Stop that process, or choose another directory`);
      await fails(["--id", "a", "--data", data, "--listen", "127.0.0.1:0"], text);
    });

    test("when the data directory is another node's or another cluster's", async () => {
      const data = await temporaryDirectory();
      await (await startNode({ id: "a", data, args: ["--cluster-id", "c1"] })).kill("SIGTERM");
      await fails(["--id", "b", "--data", data], /belongs to node a, not to b\. Give that id, or another directory/);
      await fails(["--id", "a", "--data", data, "--cluster-id", "c2"], /belongs to cluster c1, not to c2/);
    });

    test("when the data directory was made for other members", async () => {
      const data = await temporaryDirectory();
      const start = (list: string) => ["--id", "a", "--data", data, "--listen", "127.0.0.1:0", "--cluster", list];
      const node = startCommand(["start", ...start("a=127.0.0.1:1,b=127.0.0.1:2")]);
      expect(await node.nextLine()).toMatch(/of cluster cluster-[0-9a-f]{16} listens/);
      await node.kill("SIGTERM");
      const text =
        /created with a=127\.0\.0\.1:1,b=127\.0\.0\.1:2, not with a=127\.0\.0\.1:1,b=127\.0\.0\.1:3\. .*leave it out, or give that list/;
      await fails(start("a=127.0.0.1:1,b=127.0.0.1:3"), text);
    });

    test("when nobody answers where it is to join, and makes no data directory", async () => {
      const data = join(await temporaryDirectory(), "data");
      await fails(
        ["--id", "a", "--data", data, "--join", "127.0.0.1:1"],
        /UNREACHABLE.*no node answers: .*127\.0\.0\.1:1/,
      );
      await expect(readdir(data)).rejects.toMatchObject({ code: "ENOENT" });
    });

    test("when it is to join under the name of a voter", async () => {
      const node = await startNode({ id: "a", data: await temporaryDirectory() });
      const data = await temporaryDirectory();
      await fails(
        ["--id", "a", "--data", data, "--join", node.address],
        /a is a voter of cluster .* already.*lost its data.*give another --id/,
      );
    });

    test("when the data directory cannot be made", async () => {
      const directory = await temporaryDirectory();
      await writeFile(join(directory, "file"), "");
      await fails(
        ["--id", "a", "--data", join(directory, "file", "data")],
        /file is not a directory, and one is needed there/,
      );
    });

    test("when the data directory holds something else", async () => {
      const directory = await temporaryDirectory();
      await mkdir(join(directory, "wal"));
      await fails(["--id", "a", "--data", directory], /holds wal but no cairn\.json.*give an empty directory/);
    });
  });
});
