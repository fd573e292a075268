import { readdir } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { put, puts, startGateway, startNodes } from "./support.js";

const INIT = { type: "init", node_id: "n1", node_ids: ["n1"] };

describe("the envelope of a message", () => {
  test("swaps src and dest in the reply; type, in_reply_to and msg_id come first", async () => {
    const gateway = await startGateway();
    gateway.send('{"body":{"node_ids":["n1"],"node_id":"n1","msg_id":7,"type":"init"},"dest":"n1","src":"c0"}\n');
    expect(await gateway.nextLine()).toBe(
      '{"src":"n1","dest":"c0","body":{"type":"init_ok","in_reply_to":7,"msg_id":0}}',
    );
  });

  test("counts each node's replies in msg_id from 0, errors included", async () => {
    const gateway = await startNodes(["n1", "n2"]);
    await gateway.fails({ type: "fly" }, 10, /./);
    await gateway.replies({ type: "get_log_info" }, "get_log_info_ok", emptyLog);
    await gateway.replies({ type: "get_log_info" }, "get_log_info_ok", emptyLog, "n2");
    expect(await gateway.ask({ type: "get_log_info" }, "n2")).toMatchObject({ msg_id: 1 });
    expect(await gateway.ask({ type: "get_log_info" })).toMatchObject({ msg_id: 3 });
  });

  test("keeps the order of requests that come at once", async () => {
    const gateway = await startNodes();
    const requests = Array.from({ length: 50 }, (_, at) => ({
      src: "c1",
      dest: "n1",
      body:
        at % 2 === 0
          ? { type: "apply_entries", msg_id: at, entries: puts(at / 2 + 1, 1) }
          : { type: "fly", msg_id: at },
    }));
    gateway.send(requests.map((request) => `${JSON.stringify(request)}\n`).join(""));
    await gateway.end();
    const replies = gateway.printed.map((line) => (JSON.parse(line) as { body: object }).body);
    expect(replies).toEqual(
      requests.map(({ body }, at) =>
        expect.objectContaining({
          type: at % 2 === 0 ? "apply_entries_ok" : "error",
          in_reply_to: body.msg_id,
          msg_id: at + 1,
        }),
      ),
    );
  });

  test("is printed as soon as the reply is known, not at the end of input", async () => {
    const gateway = await startGateway();
    await gateway.replies(INIT, "init_ok", {});
    await gateway.replies({ type: "get_log_info" }, "get_log_info_ok", emptyLog);
  });

  test("has Python's separators with --json-style spaced", async () => {
    const gateway = await startGateway({ style: "spaced" });
    gateway.send('{"src":"c0","dest":"n1","body":{"type":"init","msg_id":1,"node_id":"n1","node_ids":["n1"]}}\n');
    expect(await gateway.nextLine()).toBe(
      '{"src": "n1", "dest": "c0", "body": {"type": "init_ok", "in_reply_to": 1, "msg_id": 0}}',
    );
    const entries = JSON.stringify([put(1, "x", { a: [1, "b,c:d"], e: {} })]);
    gateway.send(`{"src":"c0","dest":"n1","body":{"type":"apply_entries","msg_id":2,"entries":${entries}}}\n`);
    gateway.send('{"src":"c0","dest":"n1","body":{"type":"get_state","msg_id":3}}\n');
    await gateway.nextLine();
    expect(await gateway.nextLine()).toBe(
      '{"src": "n1", "dest": "c0", "body": {"type": "get_state_ok", "in_reply_to": 3, "msg_id": 2, ' +
        '"state": {"x": {"a": [1, "b,c:d"], "e": {}}}, "last_applied": 1}}',
    );
  });

  test("gets no reply without msg_id, though the request is carried out", async () => {
    const gateway = await startNodes();
    gateway.send('{"src":"c1","dest":"n1","body":{"type":"write","key":"x","value":1}}\n');
    gateway.send('{"src":"c1","dest":"n1","body":{"type":"fly"}}\n');
    await gateway.replies({ type: "read", key: "x" }, "read_ok", { value: 1 });
    expect(gateway.complaints).toEqual([expect.stringMatching(/without msg_id.*"fly" is not known/)]);
  });

  test("gets a reply for msg_id 0", async () => {
    const gateway = await startNodes();
    gateway.send('{"src":"c1","dest":"n1","body":{"type":"get_log_info","msg_id":0}}\n');
    expect(JSON.parse(await gateway.nextLine())).toMatchObject({ body: { in_reply_to: 0 } });
  });

  test("may have unknown fields, which are ignored", async () => {
    const gateway = await startNodes();
    await gateway.replies({ type: "get_log_info", colour: "red", nested: { type: 3 } }, "get_log_info_ok", emptyLog);
  });

  test.each([
    ["no JSON", "{not json", /^line 3 skipped: it is not JSON/],
    ["no object", "[1,2]", /^line 3 skipped: it is not a JSON object$/],
    ["null", "null", /^line 3 skipped: it is not a JSON object$/],
    ["a number", "12345678901234567890", /^line 3 skipped: it is not a JSON object$/],
    ["no src", '{"dest":"n1","body":{"type":"get_state","msg_id":1}}', /^line 3 skipped: src is not a string$/],
    ["dest of another type", '{"src":"c","dest":1,"body":{"type":"x"}}', /^line 3 skipped: dest is not a string$/],
    ["no body", '{"src":"c","dest":"n1"}', /^line 3 skipped: body is not an object$/],
    ["a body that is a list", '{"src":"c","dest":"n1","body":[]}', /^line 3 skipped: body is not an object$/],
    ["no type", '{"src":"c","dest":"n1","body":{"msg_id":1}}', /^line 3 skipped: body.type is not a string$/],
    [
      "a msg_id that is no number",
      '{"src":"c","dest":"n1","body":{"type":"get_state","msg_id":"1"}}',
      /^line 3 skipped: body.msg_id is not a whole number$/,
    ],
  ])("is skipped, reported by line number and loses nothing else when the line has %s", async (_, line, complaint) => {
    const gateway = await startNodes();
    gateway.send(`\r\n${line}\r\n`);
    await gateway.replies({ type: "get_log_info" }, "get_log_info_ok", emptyLog);
    expect(gateway.complaints).toEqual([expect.stringMatching(complaint)]);
  });

  test("ends in LF or CRLF; blank lines are skipped, and the last line needs no end", async () => {
    const gateway = await startNodes();
    const request = (msgId: number) => `{"src":"c1","dest":"n1","body":{"type":"get_log_info","msg_id":${msgId}}}`;
    gateway.send(`${request(1)}\r\n\r\n  \n${request(2)}\n${request(3)}`);
    await gateway.end();
    expect(gateway.printed.map((line) => JSON.parse(line).body.in_reply_to)).toEqual([1, 2, 3]);
    expect(gateway.complaints).toEqual([]);
  });

  test("may have gatewayLineBytes; a longer line is reported with the limit, and nothing else is lost", async () => {
    const gateway = await startNodes();
    const head = '{"src":"c1","dest":"n1","body":{"type":"get_log_info","msg_id":1,"pad":"';
    const pad = "x".repeat(limits.gatewayLineBytes - head.length - 3);
    gateway.send(`${head}${pad}"}}\n`);
    gateway.send(`${head}${pad}y"}}\n`);
    gateway.send('{"src":"c1","dest":"n1","body":{"type":"get_log_info","msg_id":2}}\n');
    await gateway.end();
    expect(gateway.printed.map((line) => JSON.parse(line).body.in_reply_to)).toEqual([1, 2]);
    expect(gateway.complaints).toEqual([
      `line 3 skipped: it is longer than gatewayLineBytes (${limits.gatewayLineBytes})`,
    ]);
  });
});

describe("init", () => {
  test("precedes all else: other messages before it get error 11, and an unknown type error 10", async () => {
    const gateway = await startGateway();
    for (const type of ["get_state", "apply_entries", "write", "restart"]) {
      await gateway.fails({ type }, 11, /not initialised: send init first/);
    }
    await gateway.fails({ type: "fly" }, 10, /"fly" is not known; known are init, apply_entries, .*restart/);
    await gateway.replies(INIT, "init_ok", {});
  });

  test("does not make names of Object's own members into types", async () => {
    const gateway = await startNodes();
    for (const type of ["constructor", "toString", "__proto__", "hasOwnProperty", ""]) {
      await gateway.fails({ type }, 10, /is not known/);
    }
  });

  test("answers error 1 for a dest that is none of the nodes", async () => {
    const gateway = await startNodes(["n1", "n2"]);
    await gateway.fails({ type: "get_state" }, 1, /node "n9" is not known; known are n1, n2/, "n9");
    await gateway.fails({ type: "get_state" }, 1, /node "" is not known/, "");
  });

  test("must be sent to one of its own nodes", async () => {
    const gateway = await startGateway();
    await gateway.fails(INIT, 1, /node "n2" is not known; known are n1/, "n2");
  });

  test.each([
    [{ node_ids: ["n1"] }, /field node_id is missing/],
    [{ node_id: "n1" }, /field node_ids is missing/],
    [{ node_id: 1, node_ids: ["n1"] }, /field node_id must be a string/],
    [{ node_id: "n1", node_ids: "n1" }, /field node_ids must be a list of strings/],
    [{ node_id: "n1", node_ids: ["n1", 2] }, /field node_ids must be a list of strings/],
    [{ node_id: "n1", node_ids: [] }, /field node_id is "n1", which is none of node_ids/],
    [{ node_id: "n1", node_ids: ["n1", "a/b"] }, /id "a\/b" must be 1 to 64 characters/],
    [{ node_id: "n1", node_ids: ["n1", "x".repeat(65)] }, /must be 1 to 64 characters/],
    [{ node_id: "n1", node_ids: ["n1", ".."] }, /"\.\."/],
    [{ node_id: "n1", node_ids: ["n1", "."] }, /"\."/],
  ])("answers error 12 for %j, leaves nothing of it, and a good init works afterwards", async (fields, text) => {
    const dataDir = await temporaryDirectory();
    const gateway = await startGateway({ dataDir });
    await gateway.fails({ type: "init", ...fields }, 12, text);
    await gateway.replies(INIT, "init_ok", {});
    await gateway.replies({ type: "write", key: "x", value: 1 }, "write_ok", {});
    expect(await readdir(dataDir)).toContain("n1");
    expect(await readdir(dataDir)).not.toContain("cairn.json");
  });

  test("sent again changes nothing with the same ids, and is error 22 with others", async () => {
    const gateway = await startNodes(["n1", "n2"]);
    await gateway.replies({ type: "apply_entries", entries: puts(1, 2) }, "apply_entries_ok", {
      results: [
        { index: 1, result: "ok" },
        { index: 2, result: "ok" },
      ],
      last_applied: 2,
    });
    await gateway.replies({ type: "init", node_id: "n1", node_ids: ["n2", "n1"] }, "init_ok", {});
    await gateway.fails(
      { type: "init", node_id: "n1", node_ids: ["n1"] },
      22,
      /initialised already, with the nodes n1, n2/,
    );
    await gateway.fails({ type: "init", node_id: "n1", node_ids: ["n1", "n2", "n3"] }, 22, /initialised already/);
    expect(await gateway.ask({ type: "get_log_info" })).toMatchObject({ last_index: 2 });
  });

  test("counts an id that comes twice as one node", async () => {
    const gateway = await startGateway();
    await gateway.replies({ type: "init", node_id: "n1", node_ids: ["n1", "n1"] }, "init_ok", {});
    await gateway.replies({ type: "write", key: "x", value: 1 }, "write_ok", {});
  });

  test("may have any of the nodes as dest, whatever node_id says", async () => {
    const gateway = await startGateway();
    await gateway.replies({ type: "init", node_id: "n1", node_ids: ["n1", "n2"] }, "init_ok", {}, "n2");
    await gateway.replies({ type: "get_log_info" }, "get_log_info_ok", emptyLog);
  });

  test("of several nodes lets each be driven separately", async () => {
    const gateway = await startNodes(["n1", "n2", "n3"]);
    const ask = (type: string, dest: string) => gateway.ask({ type }, dest);
    await gateway.ask({ type: "apply_entries", entries: puts(1, 3) }, "n1");
    await gateway.ask({ type: "install_snapshot", snapshot_index: 9, snapshot_term: 2, state: { a: 1 } }, "n2");
    expect(await ask("get_state", "n1")).toMatchObject({ state: { k1: 1, k2: 2, k3: 3 }, last_applied: 3 });
    expect(await ask("get_state", "n2")).toMatchObject({ state: { a: 1 }, last_applied: 9 });
    expect(await ask("get_state", "n3")).toMatchObject({ state: {}, last_applied: 0 });
    expect(await ask("restart", "n2")).toMatchObject({ snapshot_index: 9, last_applied: 9 });
    expect(await ask("get_state", "n1")).toMatchObject({ last_applied: 3 });
  });
});

const emptyLog = { first_index: 1, last_index: 0, snapshot_index: 0, total_entries: 0 };
