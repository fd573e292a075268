import { readdir, writeFile } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { CairnError } from "../../src/base/errors.js";
import { type NodeSource, OwnNodes, RunningNodes } from "../../src/gateway/nodes.js";
import { CairnNode } from "../../src/node/node.js";
import type { KeyValueNode } from "../../src/server/kv/key_value_node.js";
import { openKeyValueMachine } from "../../src/server/kv/open_machine.js";
import { CairnServer } from "../../src/server/server.js";
import { silentLogger } from "../../src/system/logger.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { ownNodes, startGateway, startNodes } from "./support.js";

const settings = { logger: silentLogger, onFatal: () => {} };

async function temporaryNodeDirectories(): Promise<string[]> {
  return (await readdir(tmpdir())).filter((name) => name.startsWith("cairn-gateway-"));
}

/** Does `work` with a temporary folder of its own; returns the node directories that are left in it. */
async function leftBehind(work: () => Promise<void>): Promise<string[]> {
  vi.stubEnv("TMPDIR", await temporaryDirectory());
  try {
    await work();
    return await temporaryNodeDirectories();
  } finally {
    vi.unstubAllEnvs();
  }
}

function signal(): { promise: Promise<void>; resolve: () => void } {
  let resolve = () => {};
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

describe("the gateway's in-process nodes", () => {
  test("leave no temporary directory behind, whatever their number", async () => {
    const left = await leftBehind(async () => {
      const nodes = new OwnNodes({ dataDir: undefined, ...settings });
      await nodes.open(["n1", "n2", "n3"]);
      expect(await temporaryNodeDirectories()).toHaveLength(1);
      await nodes.close();
    });
    expect(left).toEqual([]);
  });

  test("leave nothing behind when they are closed during their start", async () => {
    const left = await leftBehind(async () => {
      const nodes = new OwnNodes({ dataDir: undefined, ...settings });
      const opened = nodes.open(["n1", "n2"]);
      await nodes.close();
      await opened;
    });
    expect(left).toEqual([]);
  });

  test("leave nothing behind when one of them cannot start, and unlock its directory", async () => {
    const dataDir = await temporaryDirectory();
    const others = await ownNodes(dataDir);
    await others.open(["n2"]);
    const nodes = await ownNodes(dataDir);
    await expect(nodes.open(["n1", "n2"])).rejects.toThrow(/n2 is in use/);
    await others.close();
    expect((await nodes.open(["n1", "n2"])).map(({ id }) => id)).toEqual(["n1", "n2"]);
  });

  test("answer error 11 with the reason when the system keeps them from starting", async () => {
    const file = join(await temporaryDirectory(), "file");
    await writeFile(file, "");
    const gateway = await startGateway({ dataDir: join(file, "data") });
    await gateway.fails(
      { type: "init", node_id: "n1", node_ids: ["n1"] },
      11,
      /file is not a directory, and one is needed there/,
    );
  });

  test("do not start after they were closed", async () => {
    const nodes = await ownNodes();
    await nodes.close();
    await expect(async () => nodes.open(["n1"])).rejects.toThrow("STOPPED");
  });
});

describe("a gateway that is closed", () => {
  test("answers the request in progress, and carries out no more", async () => {
    const own = await ownNodes();
    const opening = signal();
    const release = signal();
    const nodes: NodeSource = {
      names: undefined,
      areNew: true,
      open: async (ids) => {
        opening.resolve();
        await release.promise;
        return own.open(ids);
      },
      restart: (node) => own.restart(node),
      close: () => own.close(),
    };
    const gateway = await startGateway({ nodes });
    const request = (body: object) => gateway.send(`${JSON.stringify({ src: "c", dest: "n1", body })}\n`);
    request({ type: "init", msg_id: 1, node_id: "n1", node_ids: ["n1"] });
    request({ type: "write", msg_id: 2, key: "x", value: 1 });
    await opening.promise;
    await gateway.close();
    release.resolve();
    await gateway.end();
    const bodies = gateway.printed.map((line) => JSON.parse(line).body);
    expect(bodies).toEqual([expect.objectContaining({ type: "error", in_reply_to: 1, code: 11 })]);
  });
});

describe("nodes that run outside the gateway", () => {
  test("are the only ones that init may name", async () => {
    const nodes = new RunningNodes(new Map([["n1", "127.0.0.1:1"]]), { timeoutMs: 5_000, logger: silentLogger });
    const gateway = await startGateway({ nodes });
    await gateway.fails(
      { type: "init", node_id: "n1", node_ids: ["n1", "n2"] },
      1,
      /node "n2" is not known; known are n1/,
    );
    await gateway.fails({ type: "init", node_id: "n1", node_ids: ["n1"] }, 11, /127\.0\.0\.1:1 cannot be reached/);
    await gateway.fails({ type: "get_state" }, 11, /not initialised/);
  });

  test("must have the names that they are given, and are not restarted", async () => {
    const warnings: string[] = [];
    const logger = { ...silentLogger, warn: (_facts: object, message: string) => void warnings.push(message) };
    const directory = join(await temporaryDirectory(), "n1");
    const node: KeyValueNode = await CairnNode.start({ id: "n1", directory, openMachine: openKeyValueMachine });
    const server = await CairnServer.start(node, { listen: "127.0.0.1:0", discoverable: false });
    onTestFinished(async () => {
      await server.stop();
      await node.stop();
    });
    const { address } = server;
    const wrong = await startGateway({
      nodes: new RunningNodes(new Map([["n2", address]]), { timeoutMs: 5_000, logger }),
    });
    await wrong.fails({ type: "init", node_id: "n2", node_ids: ["n2"] }, 1, /the node there is n1/, "n2");
    const right = await startNodes(["n1"], {
      nodes: new RunningNodes(new Map([["n1", address]]), { timeoutMs: 5_000, logger }),
    });
    await right.fails({ type: "restart" }, 10, /not supported with --nodes/);
    expect(warnings).toEqual([expect.stringContaining("--elections manual")]);
    await right.replies({ type: "write", key: "x", value: 1 }, "write_ok", {});
  });

  test("cause error 0 after the timeout when they never answer, or 11 when nothing was sent", async () => {
    const silent = createServer().listen(0, "127.0.0.1");
    onTestFinished(() => void silent.close());
    await new Promise((resolve) => silent.once("listening", resolve));
    const sockets: Socket[] = [];
    silent.on("connection", (socket) => sockets.push(socket));
    onTestFinished(() => {
      for (const socket of sockets) socket.destroy();
    });
    const { port } = silent.address() as { port: number };
    const nodes = new RunningNodes(new Map([["n1", `127.0.0.1:${port}`]]), { timeoutMs: 300, logger: silentLogger });
    const gateway = await startGateway({ nodes, timeoutMs: 300 });
    const reply = await gateway.ask({ type: "init", node_id: "n1", node_ids: ["n1"] });
    expect(reply).toMatchObject({ type: "error" });
    expect([0, 11]).toContain(reply.code);
  });
});

describe("a restart that fails", () => {
  test("is an error, and the next restart may work", async () => {
    const own = await ownNodes();
    let failing = true;
    const nodes: NodeSource = {
      names: undefined,
      areNew: true,
      open: (ids) => own.open(ids),
      restart: async (node) => {
        if (failing) throw new CairnError("CORRUPT", "the log is damaged");
        return own.restart(node);
      },
      close: () => own.close(),
    };
    const gateway = await startNodes(["n1"], { nodes });
    await gateway.replies({ type: "write", key: "x", value: 1 }, "write_ok", {});
    await gateway.fails({ type: "restart" }, 13, /^the log is damaged$/);
    failing = false;
    expect(await gateway.ask({ type: "restart" })).toMatchObject({ type: "restart_ok" });
    await gateway.fails({ type: "read", key: "y" }, 20, /./);
  });
});
