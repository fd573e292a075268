import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import { type NodeSource, RunningNodes } from "../../src/gateway/nodes.js";
import { MemoryMachine } from "../../src/machine/kv/memory_machine.js";
import { DEFAULT_SESSION_LIMITS } from "../../src/machine/kv/session_limits.js";
import { CairnNode } from "../../src/node/node.js";
import type { KeyValueNode } from "../../src/server/kv/key_value_node.js";
import { openKeyValueMachine } from "../../src/server/kv/open_machine.js";
import { CairnServer } from "../../src/server/server.js";
import { silentLogger } from "../../src/system/logger.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { puts, startNodes } from "./support.js";

const write = (key: unknown, value: unknown, request: object = {}) => ({ type: "write", key, value, ...request });
const read = (key: unknown) => ({ type: "read", key });
const cas = (key: unknown, from: unknown, to: unknown, request: object = {}) => ({
  type: "cas",
  key,
  from,
  to,
  ...request,
});

describe("the key-value workload", () => {
  test("writes, reads and swaps", async () => {
    const gateway = await startNodes();
    await gateway.replies(write("x", 1), "write_ok", {});
    await gateway.replies(read("x"), "read_ok", { value: 1 });
    await gateway.replies(cas("x", 1, { a: [2] }), "cas_ok", {});
    await gateway.replies(read("x"), "read_ok", { value: { a: [2] } });
    await gateway.replies(cas("x", { a: [2] }, null), "cas_ok", {});
    await gateway.replies(read("x"), "read_ok", { value: null });
  });

  test("answers error 20 for a read or cas of a missing key", async () => {
    const gateway = await startNodes();
    await gateway.fails(read("x"), 20, /^key x does not exist$/);
    await gateway.fails(cas("x", 1, 2), 20, /^key x does not exist$/);
    await gateway.fails(cas("x", 1, 2, { create_if_not_exists: false }), 20, /does not exist/);
    await gateway.fails(read("x"), 20, /does not exist/);
  });

  test("answers error 22 with both values for a cas that does not match, and changes nothing", async () => {
    const gateway = await startNodes();
    await gateway.ask(write("x", "a"));
    await gateway.fails(cas("x", 1, 2), 22, /^key x has the value "a", expected 1$/);
    await gateway.replies(read("x"), "read_ok", { value: "a" });
  });

  test("creates a missing key by a cas that may create", async () => {
    const gateway = await startNodes();
    await gateway.replies(cas("x", 1, 2, { create_if_not_exists: true }), "cas_ok", {});
    await gateway.replies(read("x"), "read_ok", { value: 2 });
    await gateway.fails(cas("x", 1, 3, { create_if_not_exists: true }), 22, /has the value 2, expected 1/);
  });

  test("takes a number as the key of its digits", async () => {
    const gateway = await startNodes();
    await gateway.replies(write(7, "seven"), "write_ok", {});
    await gateway.replies(read(7), "read_ok", { value: "seven" });
    await gateway.replies(read("7"), "read_ok", { value: "seven" });
    await gateway.fails(read(8), 20, /^key 8 does not exist$/);
    await gateway.replies(write("é 😀\n", 1), "write_ok", {});
    await gateway.replies(read("é 😀\n"), "read_ok", { value: 1 });
  });

  test("answers error 12 for a malformed request", async () => {
    const gateway = await startNodes();
    for (const [request, text] of [
      [{ type: "write", value: 1 }, /field key is missing/],
      [{ type: "write", key: "x" }, /field value is missing/],
      [{ type: "write", key: "", value: 1 }, /field key must not be empty/],
      [{ type: "write", key: [], value: 1 }, /field key must be a string/],
      [{ type: "write", key: "x", value: 1, client_id: "c" }, /field seq is missing/],
      [{ type: "write", key: "x", value: 1, seq: 1 }, /field client_id is missing/],
      [{ type: "write", key: "x", value: 1, client_id: "c", seq: -1 }, /field seq must be a whole number from 0/],
      [{ type: "write", key: "x", value: 1, client_id: "", seq: 1 }, /client_id is empty/],
      [{ type: "write", key: "x", value: 1, client_id: "c".repeat(257), seq: 1 }, /clientIdBytes/],
      [{ type: "write", key: "k".repeat(1025), value: 1 }, /keyBytes/],
      [{ type: "write", key: "x", value: "v".repeat(limits.valueBytes) }, /valueBytes/],
      [{ type: "read" }, /field key is missing/],
      [{ type: "read", key: "k".repeat(1025) }, /keyBytes/],
      [{ type: "cas", key: "x", to: 1 }, /field from is missing/],
      [{ type: "cas", key: "x", from: 1 }, /field to is missing/],
      [
        { type: "cas", key: "x", from: 1, to: 2, create_if_not_exists: 1 },
        /field create_if_not_exists must be true or false/,
      ],
    ] as const) {
      await gateway.fails(request, 12, text);
    }
  });

  test("goes through consensus: the node campaigns once, and each write is an entry", async () => {
    const gateway = await startNodes();
    await gateway.ask(write("x", 1));
    expect(await gateway.ask({ type: "get_log_info" })).toMatchObject({ last_index: 2 });
    await gateway.ask(write("x", 2));
    await gateway.ask(read("x"));
    expect(await gateway.ask({ type: "get_log_info" })).toMatchObject({ last_index: 3 });
  });

  test("continues behind a leader's entries, which a newer leader's entries continue", async () => {
    const gateway = await startNodes();
    await gateway.ask({ type: "apply_entries", entries: puts(1, 2, 3) });
    await gateway.replies(read("k2"), "read_ok", { value: 2 });
    await gateway.replies(write("k1", "w"), "write_ok", {});
    const { last_index } = await gateway.ask({ type: "get_log_info" });
    const next = Number(last_index) + 1;
    await gateway.ask({ type: "apply_entries", entries: puts(next, 1, 9) });
    await gateway.replies(read(`k${next}`), "read_ok", { value: next });
    await gateway.replies(read("k1"), "read_ok", { value: "w" });
  });
});

describe("the key-value workload with several nodes", () => {
  const three = ["n1", "n2", "n3"];

  test("is served by any node, and all nodes read what one has written", async () => {
    const gateway = await startNodes(three);
    await gateway.replies(write("x", 1), "write_ok", {});
    await gateway.replies(read("x"), "read_ok", { value: 1 }, "n2");
    await gateway.replies(cas("x", 1, 2), "cas_ok", {}, "n3");
    await gateway.fails(cas("x", 1, 3), 22, /has the value 2, expected 1/, "n2");
    await gateway.replies(write("y", [1], { client_id: "c", seq: 1 }), "write_ok", {}, "n2");
    await gateway.replies(write("y", [2], { client_id: "c", seq: 1 }), "write_ok", {}, "n3");
    await gateway.replies(read("y"), "read_ok", { value: [1] });
  });

  test("reaches every node in the end", async () => {
    const gateway = await startNodes(three);
    for (let at = 0; at < 20; at++) await gateway.ask(write(`k${at}`, at), three[at % 3]);
    const { last_index: last } = await gateway.ask({ type: "get_log_info" });
    const state = Object.fromEntries(Array.from({ length: 20 }, (_, at) => [`k${at}`, at]));
    for (const node of three) {
      let found: unknown;
      while ((found as { last_applied: number } | undefined)?.last_applied !== last) {
        found = await gateway.ask({ type: "get_state" }, node);
      }
      expect(new Map(Object.entries((found as { state: object }).state))).toEqual(new Map(Object.entries(state)));
    }
  });

  test("continues without loss when the leader restarts or lags behind", async () => {
    const gateway = await startNodes(three);
    await gateway.replies(write("x", 1), "write_ok", {});
    await gateway.ask({ type: "restart" });
    await gateway.replies(read("x"), "read_ok", { value: 1 }, "n2");
    await gateway.replies(write("x", 2), "write_ok", {}, "n3");
    for (const node of three) {
      await gateway.ask({ type: "restart" }, node);
      await gateway.replies(read("x"), "read_ok", { value: 2 }, node);
    }
  });

  test("is led by the node that was driven by hand to a longer log than the others'", async () => {
    const gateway = await startNodes(three);
    await gateway.ask({ type: "apply_entries", entries: puts(1, 3) }, "n2");
    await gateway.replies(read("k3"), "read_ok", { value: 3 }, "n2");
    await gateway.replies(read("k2"), "read_ok", { value: 2 }, "n1");
  });

  test("gets error 11, with nothing done, from a voter whose cluster is down", async () => {
    const directory = join(await temporaryDirectory(), "n1");
    const members = three.map((id) => ({ id, address: "", role: "voter" as const }));
    const openMachine = openKeyValueMachine;
    const settings = { id: "n1", directory, openMachine, members, elections: "manual", tickMs: 10 } as const;
    const node: KeyValueNode = await CairnNode.start(settings);
    const server = await CairnServer.start(node, { listen: "127.0.0.1:0", discoverable: false });
    onTestFinished(async () => {
      await server.stop();
      await node.stop();
    });
    const nodes = new RunningNodes(new Map([["n1", server.address]]), { timeoutMs: 5_000, logger: silentLogger });
    const gateway = await startNodes(["n1"], { nodes });
    await gateway.fails(write("x", 1), 11, /n1 was not elected/);
    await gateway.fails(read("x"), 11, /n1 was not elected/);
    expect(await gateway.ask({ type: "get_state" })).toMatchObject({ state: {} });
  });
});

describe("a retry with client_id and seq", () => {
  const of = (seq: number, client: unknown = "c7") => ({ client_id: client, seq });

  test("of a write gets the same reply and has no second effect", async () => {
    const gateway = await startNodes();
    await gateway.replies(write("x", 1, of(1)), "write_ok", {});
    await gateway.replies(write("x", 2, of(2)), "write_ok", {});
    await gateway.replies(write("x", 1, of(1)), "write_ok", {});
    await gateway.replies(read("x"), "read_ok", { value: 2 });
  });

  test("of a cas gets the same reply, even when it did not match", async () => {
    const gateway = await startNodes();
    await gateway.ask(write("x", 1));
    await gateway.replies(cas("x", 1, 2, of(1)), "cas_ok", {});
    await gateway.fails(cas("x", 1, 3, of(2)), 22, /has the value 2, expected 1/);
    await gateway.fails(cas("none", 1, 3, of(3)), 20, /does not exist/);
    await gateway.ask(write("x", 1));
    await gateway.ask(write("none", 1));
    await gateway.replies(cas("x", 1, 2, of(1)), "cas_ok", {});
    await gateway.fails(cas("x", 1, 3, of(2)), 22, /has the value 2, expected 1/);
    await gateway.fails(cas("none", 1, 3, of(3)), 20, /does not exist/);
    await gateway.replies(read("x"), "read_ok", { value: 1 });
  });

  test("works after a restart, from the log and from a snapshot", async () => {
    const gateway = await startNodes();
    await gateway.ask(write("x", 1, of(1)));
    await gateway.ask(cas("x", 1, 2, of(2)));
    await gateway.ask({ type: "restart" });
    await gateway.replies(write("x", 1, of(1)), "write_ok", {});
    await gateway.replies(cas("x", 1, 2, of(2)), "cas_ok", {});
    await gateway.ask({ type: "take_snapshot" });
    await gateway.ask({ type: "restart" });
    await gateway.replies(cas("x", 1, 2, of(2)), "cas_ok", {});
    await gateway.replies(read("x"), "read_ok", { value: 2 });
  });

  test("has its numbers counted for each client, from 0 if it likes, and a client may be a number", async () => {
    const gateway = await startNodes();
    await gateway.ask(write("x", 1, of(0, "a")));
    await gateway.ask(write("x", 2, of(0, 5)));
    await gateway.ask(write("x", 3, of(1, "a")));
    await gateway.replies(write("x", 2, of(0, 5)), "write_ok", {});
    await gateway.replies(write("x", 1, of(0, "a")), "write_ok", {});
    await gateway.replies(read("x"), "read_ok", { value: 3 });
  });

  describe("with a store that remembers one client (T6)", () => {
    /** `areNew`: whether the gateway takes the node for one that nobody has used before. */
    async function forgetful(areNew: boolean, sessionLimits = { ...DEFAULT_SESSION_LIMITS, sessions: 1 }) {
      const directory = join(await temporaryDirectory(), "n1");
      const openMachine = async () => new MemoryMachine(sessionLimits);
      const node: KeyValueNode = await CairnNode.start({ id: "n1", directory, openMachine, elections: "manual" });
      const server = await CairnServer.start(node, { listen: "127.0.0.1:0", discoverable: false });
      onTestFinished(async () => {
        await server.stop();
        await node.stop();
      });
      const nodes = new RunningNodes(new Map([["n1", server.address]]), { timeoutMs: 5_000, logger: silentLogger });
      const source: NodeSource = {
        names: nodes.names,
        areNew,
        open: (ids) => nodes.open(ids),
        restart: () => nodes.restart(),
        close: () => nodes.close(),
      };
      return startNodes(["n1"], { nodes: source });
    }

    test("gets error 13 when its answer is forgotten, because it may or may not have happened", async () => {
      const gateway = await forgetful(true, { ...DEFAULT_SESSION_LIMITS, sessions: 1, answers: 4 });
      for (let seq = 0; seq <= 5; seq++) await gateway.ask(write("x", seq, of(seq)));
      await gateway.replies(write("x", 5, of(5)), "write_ok", {});
      await gateway.fails(write("x", 0, of(0)), 13, /./);
      await gateway.replies(read("x"), "read_ok", { value: 5 });
    });

    test("gets error 13 when the client was forgotten, while new clients are served", async () => {
      const gateway = await forgetful(true);
      await gateway.replies(write("x", "a", of(5, "a")), "write_ok", {});
      await gateway.replies(write("x", "b", of(0, "b")), "write_ok", {});
      await gateway.replies(write("x", "c", of(7, "c")), "write_ok", {});
      await gateway.replies(write("x", "c", of(7, "c")), "write_ok", {});
      await gateway.fails(write("x", "a", of(5, "a")), 13, /may have taken effect/);
      await gateway.fails(cas("x", "c", "b", of(1, "b")), 13, /may have taken effect/);
      await gateway.replies(read("x"), "read_ok", { value: "c" });
      // Without a number, and by a client that is known, all goes on.
      await gateway.replies(cas("x", "c", "d", of(8, "c")), "cas_ok", {});
      await gateway.replies(write("x", "e"), "write_ok", {});
      await gateway.replies(read("x"), "read_ok", { value: "e" });
    });

    test("of a new client is recognised on nodes that others may have used, because the client names an index", async () => {
      const gateway = await forgetful(false);
      await gateway.replies(write("x", "a", of(1, "a")), "write_ok", {});
      // Nobody is forgotten yet.
      await gateway.replies(write("x", "b", of(1, "b")), "write_ok", {});
      const late = await gateway.ask(write("x", "a", of(1, "a")));
      expect(late).toMatchObject({ type: "error", code: 13 });
      const since = Number(/since (\d+)/.exec(String(late.text))![1]);
      await gateway.fails(write("x", "c", of(1, "c")), 13, /since/);
      await gateway.replies(write("x", "c", { ...of(1, "c"), since }), "write_ok", {});
      await gateway.fails(write("x", "d", { ...of(1, "d"), since: -1 }), 12, /field since/);
      await gateway.replies(read("x"), "read_ok", { value: "c" });
    });
  });

  test("of a cas that met a long value gets the same error with another text (T6)", async () => {
    const gateway = await startNodes();
    await gateway.ask(write("x", "v".repeat(limits.sessionValueBytes)));
    await gateway.fails(cas("x", 1, 2, of(1)), 22, /^key x has the value "vvv/);
    await gateway.fails(cas("x", 1, 2, of(1)), 22, /^key x had another value, too long/);
  });
});
