import { mkdir, mkdtemp, readdir, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AdminService } from "../../gen/cairn/v1/admin_pb.js";
import { createClient } from "../../src/rpc/client.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { freePorts } from "../support/processes/process_cluster.js";
import { type RunningCommand, runCommand, startCommand, startNode } from "../support/processes/processes.js";

/** A node with slow ticks does not warn on standard error when a busy machine holds it up for a second. */
const PATIENT = ["--tick-ms", "1000"];

describe("cairn start", () => {
  let data: string;
  let waiting: RunningCommand;

  // A wait of 15 s: the other tests run meanwhile.
  beforeAll(async () => {
    data = await mkdtemp(join(tmpdir(), "cairn-test-cli-"));
    await symlink("2:another-boot:0123456789ab:77:::s", join(data, "lock.1"));
    const start = () =>
      startCommand(["start", "--id", "a", "--data", data, "--listen", "127.0.0.1:0"], { outlivesTest: true });
    const stopped = start();
    await stopped.waitFor(/waiting for up to 15 s/);
    expect(await stopped.kill("SIGTERM")).toEqual({ code: 0, signal: null });
    waiting = start();
    await waiting.waitFor(/waiting for up to 15 s/);
  });
  afterAll(async () => {
    await waiting.kill();
    await rm(data, { recursive: true, force: true });
  });

  test("founds a cluster of one without lists, says so, and says how to mend it if that was not meant (T1)", async () => {
    const data = await temporaryDirectory();
    const start = () => startCommand(["start", "--id", "a", "--data", data, "--listen", "127.0.0.1:0"]);
    const node = start();
    const line = await node.nextLine();
    expect(line).toMatch(/^node a listens on 127\.0\.0\.1:[1-9]\d*, data in .*; it is new, and looks for its cluster$/);
    expect(line).toContain(data);
    const founded = await node.nextLine();
    const [, cluster] = /^node a has founded cluster ([0-9a-f]{32}) with a alone, because neither /.exec(founded)!;
    expect(founded).toContain(`If a was a member of a cluster before: stop it, remove ${data}, and start it with`);
    expect(await node.kill("SIGTERM")).toEqual({ code: 0, signal: null });
    const again = start();
    expect(await again.nextLine()).toMatch(
      new RegExp(`^node a of cluster ${cluster} listens on 127\\.0\\.0\\.1:\\d+, data`),
    );
    expect(await again.kill("SIGTERM")).toEqual({ code: 0, signal: null });
    expect(again.stdout.trimEnd().split("\n")).toHaveLength(1);
  });

  test("prints one object a line with --json, and the node answers at the printed address", async () => {
    const data = await temporaryDirectory();
    const node = startCommand(["start", "--id", "a", "--data", data, "--listen", "127.0.0.1:0", "--json"]);
    const said = JSON.parse(await node.nextLine());
    expect(said).toEqual({ event: "listening", node: "a", cluster: "", address: said.address, data });
    const founded = JSON.parse(await node.nextLine());
    expect(founded).toMatchObject({ event: "founded", node: "a", cluster: expect.stringMatching(/^[0-9a-f]{32}$/) });
    expect(founded.members).toMatchObject([{ id: "a", role: "voter" }]);
    const admin = createClient(AdminService, said.address);
    const status = await admin.getStatus({}).finally(() => admin.close());
    expect(status).toMatchObject({ nodeId: "a", clusterId: founded.cluster });
    expect(await node.kill("SIGTERM")).toEqual({ code: 0, signal: null });
    expect(node.stdout.trimEnd().split("\n")).toHaveLength(2);
  });

  test.each(["SIGINT", "SIGTERM"] as const)(
    "stops cleanly on %s: it exits 0 and unlocks the directory",
    async (signal) => {
      const data = await temporaryDirectory();
      const node = await startNode({ id: "a", data, args: PATIENT });
      expect(await node.kill(signal)).toEqual({ code: 0, signal: null });
      expect(node.command.stderr).toBe("");
      const again = await startNode({ id: "a", data });
      expect(await again.kill(signal)).toEqual({ code: 0, signal: null });
    },
  );

  test("starts on a directory whose node was ended by kill -9", async () => {
    const data = await temporaryDirectory();
    const node = await startNode({ id: "a", data });
    expect(await node.kill()).toEqual({ code: null, signal: "SIGKILL" });
    const again = await startNode({ id: "a", data });
    expect(again.address).toMatch(/^127\.0\.0\.1:\d+$/);
  });

  test.runIf(process.platform === "linux")("exits with advice where its directory cannot be made", async () => {
    const { code, stderr } = await runCommand(["start", "--id", "a", "--data", "/proc/cairn/a"]);
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^cairn: \[DATA_DIRECTORY\] data directory \/proc\/cairn\/a cannot be made: .* Give one that this user may write in\.\n$/,
    );
  });

  test("makes files that only its user can read", async () => {
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
      const data = await temporaryDirectory();
      await fails(["--id", "a", "--data", data, "--listen", listen, "--insecure", ...PATIENT], text);
    });

    test("when the port is in use", async () => {
      const node = await startNode({ id: "a", data: await temporaryDirectory() });
      const data = await temporaryDirectory();
      await fails(
        ["--id", "b", "--data", data, "--listen", node.address, ...PATIENT],
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
      const node = await startNode({ id: "a", data });
      const { cluster } = await node.event("founded");
      await node.kill("SIGTERM");
      await fails(["--id", "b", "--data", data], /belongs to node a, not to b\. Give that id, or another directory/);
      const text = new RegExp(`belongs to cluster ${cluster}, not to c2\\. Give that cluster id`);
      await fails(["--id", "a", "--data", data, "--cluster-id", "c2"], text);
    });

    test("when a cluster id is given for a new directory (T2)", async () => {
      const args = ["--id", "a", "--data", await temporaryDirectory(), "--cluster-id", "c1"];
      await fails(args, /data directory is new: a cluster's id is drawn when it is founded\. Leave it out/);
    });

    test("when the cluster was founded with other members", async () => {
      const data = await temporaryDirectory();
      const node = await startNode({ id: "a", data, args: ["--cluster", "a=127.0.0.1:1"] });
      await node.event("founded");
      await node.kill("SIGTERM");
      await fails(
        ["--id", "a", "--data", data, "--listen", "127.0.0.1:0", "--cluster", "a=127.0.0.1:1,b=127.0.0.1:3"],
        /created with a=127\.0\.0\.1:1, not with a=127\.0\.0\.1:1,b=127\.0\.0\.1:3\. .*leave them out, or give that list/,
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
      await fails(
        ["--id", "a", "--data", directory],
        /holds wal but no cairn\.json.*move the whole data directory away, keep it/,
      );
    });
  });

  test("lets the next command line mend a mistake of the first while the directory is new (T1)", async () => {
    const data = await temporaryDirectory();
    const first = await startNode({ id: "a", data, args: ["--cluster", "a=127.0.0.1:1,b=127.0.0.1:2"] });
    await first.command.waitFor(/a is new; to found the cluster it must hear from b \(no answer\)/);
    await first.kill("SIGTERM");
    const second = await startNode({ id: "a", data, args: ["--join", "127.0.0.1:1"] });
    await second.command.waitFor(/a is new; to join its cluster it must hear from 127\.0\.0\.1:1 \(no answer\)/);
    await second.kill("SIGTERM");
    const third = await startNode({ id: "a", data, args: ["--cluster", "a=127.0.0.1:1"] });
    await third.event("founded");
    await third.kill("SIGTERM");
    // The list that it was founded with counts from now on.
    const fourth = await startNode({ id: "a", data, args: ["--cluster", "a=127.0.0.1:1"] });
    expect(await fourth.kill("SIGTERM")).toEqual({ code: 0, signal: null });
  });

  test("waits with --join for a contact that is down, names it, and joins when it comes up (T1)", async () => {
    const [port] = await freePorts(1);
    const contact = `127.0.0.1:${port}`;
    const joining = await startNode({ id: "b", data: await temporaryDirectory(), args: ["--join", contact] });
    const { reason } = await joining.event("waiting");
    expect(reason).toBe(`b is new; to join its cluster it must hear from ${contact} (no answer)`);
    await joining.command.waitFor(/node b waits, for \d+ s now: b is new; /);
    const founder = await startNode({ id: "a", data: await temporaryDirectory(), listen: contact });
    const { cluster } = await founder.event("founded");
    expect(await joining.event("joined")).toMatchObject({ node: "b", cluster, address: joining.address });
    const admin = createClient(AdminService, contact);
    const { membership } = await admin.getStatus({}).finally(() => admin.close());
    expect(membership!.members.map(({ id, address }) => [id, address])).toEqual([
      ["a", contact],
      ["b", joining.address],
    ]);
  });

  test("waits with --join under the name of a running node, and says what to do (T1)", async () => {
    const node = await startNode({ id: "a", data: await temporaryDirectory() });
    const second = await startNode({ id: "a", data: await temporaryDirectory(), args: ["--join", node.address] });
    const { reason } = await second.event("waiting");
    expect(reason).toMatch(
      /another node runs under the name a, at .*, and answers: stop it, or give this one another id/,
    );
    expect(await second.kill("SIGTERM")).toEqual({ code: 0, signal: null });
  });

  test("tells a founder that the cluster does not know to use --join, which then works on the same directory (T1)", async () => {
    const node = await startNode({ id: "a", data: await temporaryDirectory() });
    const { cluster } = await node.event("founded");
    const data = await temporaryDirectory();
    const args = ["start", "--id", "b", "--data", data, "--listen", "127.0.0.1:0"];
    const refused = await runCommand([...args, "--cluster", `a=${node.address},b=127.0.0.1:1`]);
    expect(refused).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/b is not a member .*start it with join \(--join/),
    });
    const joining = await startNode({ id: "b", data, args: ["--join", node.address] });
    expect(await joining.event("joined")).toMatchObject({ cluster });
  });

  test("waits for a sign of life of a lock holder that it cannot see, says so, can be stopped meanwhile, and starts", async () => {
    expect(await waiting.nextLine()).toContain("listens on");
    expect(waiting.stderr).toContain("counts as dead");
  });
});
