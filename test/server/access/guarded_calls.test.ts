import * as grpc from "@grpc/grpc-js";
import { describe, expect, onTestFinished, test } from "vitest";
import { CairnClient } from "../../../src/client/client.js";
import type { CallSettings } from "../../../src/rpc/channel.js";
import { methodRules } from "../../../src/server/access/method_rules.js";
import { failure } from "../../support/conditions.js";
import { bytes, text } from "../../support/nodes/acting_leader.js";
import { as, serveGuarded, type TestCaller, testCaller } from "../../support/nodes/guarded.js";
import { collect } from "../../support/nodes/served_node.js";
import { getCall, putCall } from "../session_support.js";

const reader = testCaller("reader", { role: "reader", prefixes: ["app/"] });
const writer = testCaller("writer", { role: "writer", prefixes: ["app/", "locks/"] });
const all = testCaller("all", { role: "writer" });
const admin = testCaller("ops", { role: "admin" });
const peer = testCaller("members", { role: "peer" });
const callers = [reader, writer, all, admin, peer];

const span = (start: string, end: string) => ({ start: bytes(start), end: bytes(end) });

/** Calls a method of any kind with an empty request; returns the code of its failure, or OK. */
async function codeOf(channel: grpc.Channel, path: string, metadata: Readonly<Record<string, string>> = {}) {
  return new Promise<string>((resolve) => {
    const call = channel.createCall(path, Date.now() + 20_000, undefined, null, undefined);
    const sent = new grpc.Metadata();
    for (const [key, value] of Object.entries(metadata)) sent.set(key, value);
    call.start(sent, {
      onReceiveMetadata: () => {},
      onReceiveMessage: () => {
        resolve("OK");
        call.cancelWithStatus(grpc.status.CANCELLED, "enough");
      },
      onReceiveStatus: ({ code }) => resolve(grpc.status[code]!),
    });
    call.sendMessageWithContext({}, Buffer.alloc(0));
    call.halfClose();
    call.startRead();
  });
}

describe("a node with an access file", () => {
  test("refuses every method to strangers, and by each caller's role", async () => {
    const { server } = await serveGuarded(callers);
    const channel = new grpc.Channel(server.address, grpc.credentials.createInsecure(), {});
    try {
      const served = [...methodRules].filter(([path]) => !path.includes(".MachineService/"));
      for (const [path, { needs }] of served) {
        const stranger = await codeOf(channel, path);
        expect([path, stranger]).toEqual([
          path,
          needs === "health" ? expect.not.stringMatching(/^UNAUTH/) : "UNAUTHENTICATED",
        ]);
        expect(await codeOf(channel, path, { authorization: "Bearer no" })).toBe(stranger);
        const roles = [reader, writer, admin, peer] as const;
        const refused: boolean[] = [];
        for (const each of roles)
          refused.push((await codeOf(channel, path, as(each).metadata)) === "PERMISSION_DENIED");
        const rule = methodRules.get(path)!;
        // An empty key lies within no prefix, but a watch and a range ask for all keys.
        const byNeed: Readonly<Record<string, boolean[]>> = {
          reader: [false, false, true, rule.byMembers !== true],
          writer: [true, false, true, rule.byMembers !== true],
          "reader of all keys": [true, true, false, true],
          admin: [true, true, false, rule.byMembers !== true],
          known: [false, false, false, false],
          peer: [true, true, true, false],
          health: [false, false, false, false],
          reflection: [false, false, false, false],
        };
        if (!/\/(Get|Put|Delete|CompareAndSet|Range|Watch|Session)$/.test(path))
          expect([path, refused]).toEqual([path, byNeed[needs]]);
      }
    } finally {
      channel.close();
    }
  });

  test("holds every operation to the prefixes of its caller", async () => {
    const { kv, node } = await serveGuarded(callers);
    const [a, other] = [bytes("app/a"), bytes("other/a")];
    await kv.put({ key: other, value: bytes("1") }, as(all));
    await kv.put({ key: a, value: bytes("1") }, as(writer));
    expect(text((await kv.get({ key: a }, as(reader))).kv?.value)).toBe("1");
    const { index } = node.raft.log.last;
    const denied = (task: Promise<unknown>, problem = "") => failure("PERMISSION_DENIED", task, problem);
    await denied(kv.put({ key: a }, as(reader)), "reader lacks the role writer");
    await denied(kv.get({ key: other }, as(reader)), 'reader lacks the role reader for keys with the prefix "other/"');
    await denied(kv.put({ key: other }, as(writer)), 'writer lacks the role writer for keys with the prefix "other/"');
    await denied(kv.delete({ key: other }, as(writer)));
    await denied(kv.delete({ key: a }, as(reader)));
    await denied(kv.compareAndSet({ key: other, expected: { case: "version", value: 0n } }, as(writer)));
    await denied(kv.get({ key: a }, as(admin)), "ops lacks the role reader");
    // The same text whether the key exists or not.
    const missing = await denied(kv.get({ key: bytes("other/none") }, as(reader)));
    expect(missing.text).toBe((await denied(kv.get({ key: other }, as(reader)))).text);

    const keys = async (prefix: string) =>
      (await collect(kv.range({ prefix: bytes(prefix) }, as(reader)))).flatMap(({ kvs }) => kvs);
    expect((await keys("app/")).length).toBe(1);
    for (const prefix of ["", "app", "ap", "other/"]) await denied(keys(prefix), "a range must lie within one prefix");

    const get = (key: Uint8Array) => ({ operation: { case: "get" as const, value: { key } } });
    const put = (key: Uint8Array) => ({ operation: { case: "put" as const, value: { key, value: bytes("2") } } });
    const range = (keys: object) => ({ operation: { case: "range" as const, value: { keys } } });
    const deleteRange = (keys: object) => ({ operation: { case: "deleteRange" as const, value: { keys } } });
    const exists = (key: Uint8Array) => ({ key, expected: { case: "exists" as const, value: true } });
    const refusedTxns = [
      { compare: [exists(other)], then: [get(a)] },
      { compare: [{ keys: span("app/", "b"), expected: { case: "version" as const, value: 0n } }], then: [get(a)] },
      { then: [get(a), get(other)] },
      { then: [get(a)], otherwise: [put(other)] },
      { then: [put(a), range(span("app/", "other/z"))] },
      { otherwise: [range({})] },
      { then: [deleteRange({ prefix: bytes("o") })] },
      { then: [deleteRange(span("app/", "app0x"))] },
    ];
    for (const txn of refusedTxns) await denied(kv.txn(txn, as(writer)));
    await denied(kv.txn({ then: [put(a)] }, as(reader)), "the role writer");
    await denied(kv.txn({ then: [deleteRange({ prefix: bytes("app/") })] }, as(reader)), "the role writer");
    expect(node.raft.log.last.index).toBe(index);
    const done = await kv.txn({ compare: [exists(a)], then: [put(a), range({ prefix: bytes("app/") })] }, as(writer));
    expect(done.succeeded).toBe(true);
    expect((await kv.txn({ compare: [exists(a)], then: [range(span("app/", "app0"))] }, as(reader))).succeeded).toBe(
      true,
    );
    expect(text((await kv.get({ key: other }, as(all))).kv?.value)).toBe("1");
  });

  test("checks each call of a session", async () => {
    const { kv, node } = await serveGuarded(callers);
    const open = (settings: CallSettings) => {
      const stream = kv.session(settings);
      const answers = stream.responses[Symbol.asyncIterator]();
      const next = async () => {
        for (;;) {
          const { done, value } = await answers.next();
          if (done === true) return [];
          if (value.answers.length > 0) return value.answers;
        }
      };
      return { stream, next };
    };
    const session = open(as(reader));
    await session.stream.send({
      clientId: "c1",
      calls: [putCall(1, "app/a", "1"), getCall(2, "other/a", { stale: true }), getCall(3, "other/a")],
    });
    const answered = new Map<bigint, string>();
    while (answered.size < 3) {
      for (const { sequence, answer } of await session.next()) {
        answered.set(sequence, answer.case === "error" ? answer.value.code : `${answer.case}`);
      }
    }
    expect([...answered.values()]).toEqual(Array(3).fill("PERMISSION_DENIED"));
    expect(node.raft.log.last.index).toBe(1);
    await session.stream.send({ calls: [getCall(4, "app/a")] });
    expect((await session.next())[0]!.answer.case).toBe("get");
    session.stream.end();
    const strangers = open({});
    await strangers.stream.send({ clientId: "c1" });
    await failure("UNAUTHENTICATED", strangers.next());
  });

  test("lets nobody but a member speak for others", async () => {
    const { kv, leases } = await serveGuarded(callers);
    const key = bytes("app/a");
    const put = (settings: CallSettings) => kv.put({ key, value: bytes("1") }, settings);
    for (const forged of [{ "cairn-caller": "all" }, { "cairn-forwarded-by": "n2" }, { "cairn-caller": "!member" }]) {
      await failure("PERMISSION_DENIED", put(as(writer, forged)), "lacks the role peer");
      await failure("UNAUTHENTICATED", put({ metadata: forged }));
    }
    for (const first of [{ forwardedBy: "n2" }, { ingress: true }]) {
      const stream = kv.session(as(all));
      await stream.send({ ...first, calls: [{ ...putCall(1, "app/a", "1"), caller: "all" }] });
      await failure("PERMISSION_DENIED", collect(stream.responses), "that the first message of the session claims");
    }
    const forward = (caller: string) => as(peer, { "cairn-forwarded-by": "n2", "cairn-caller": caller });
    await put(forward("writer"));
    await failure("PERMISSION_DENIED", put(forward("reader")), "reader lacks the role writer");
    await failure(
      "PERMISSION_DENIED",
      put(forward("nobody")),
      'members lacks a caller with the name that it vouches for, "nobody"',
    );
    await failure("PERMISSION_DENIED", put(forward("members")), "that it vouches for");
    // A member without an access file tells no caller.
    await failure(
      "PERMISSION_DENIED",
      put(as(peer, { "cairn-forwarded-by": "n2" })),
      "give all members the same access file",
    );
    await failure("PERMISSION_DENIED", put(as(peer)), "members lacks the role writer");
    const stream = kv.session(as(peer));
    await stream.send({
      forwardedBy: "n2",
      calls: [
        { ...putCall(1, "app/a", "1"), caller: "writer" },
        { ...putCall(2, "app/a", "1"), caller: "reader" },
        { ...putCall(3, "app/a", "1"), caller: "" },
        { ...putCall(4, "other/a", "1"), caller: "writer" },
      ],
    });
    const found = new Map<bigint, string | undefined>();
    for await (const { answers } of stream.responses) {
      for (const { sequence, answer } of answers)
        found.set(sequence, answer.case === "error" ? answer.value.code : answer.case);
      if (found.size === 4) break;
    }
    const denied = "PERMISSION_DENIED";
    expect(found).toEqual(
      new Map([
        [1n, "put"],
        [2n, denied],
        [3n, denied],
        [4n, denied],
      ]),
    );
    const keeping = leases.keepAlive(as(peer));
    await keeping.send({ leaseIds: [5n], caller: "nobody" });
    await keeping.send({ leaseIds: [(await leases.grant({ ttlMs: 60_000 }, as(writer))).leaseId], caller: "reader" });
    keeping.end();
    const kept = (await collect(keeping.responses)).flatMap((each) => each.leases.map(({ found: isKept }) => isKept));
    expect(kept).toEqual([false, false]);
  });

  test("judges a lease by the keys that are attached to it", async () => {
    const { kv, leases } = await serveGuarded(callers);
    const { leaseId } = await leases.grant({ ttlMs: 60_000 }, as(writer));
    await kv.put({ key: bytes("locks/a"), leaseId }, as(writer));
    const keep = async (settings: CallSettings) => {
      const stream = leases.keepAlive(settings);
      await stream.send({ leaseIds: [leaseId] });
      stream.end();
      return (await collect(stream.responses))[0]!.leases[0]!.found;
    };
    expect(await keep(as(writer))).toBe(true);
    expect((await leases.timeToLive({ leaseId, keys: true }, as(writer))).keys).toHaveLength(1);
    await failure("PERMISSION_DENIED", leases.timeToLive({ leaseId, keys: true }, as(reader)), "attached to lease");
    await kv.put({ key: bytes("other/a"), leaseId }, as(all));
    // One of its keys is no longer the writer's.
    expect(await keep(as(writer))).toBe(false);
    expect(await keep(as(all))).toBe(true);
    await failure(
      "PERMISSION_DENIED",
      kv.put({ key: bytes("app/a"), leaseId }, as(writer)),
      `attached to lease ${leaseId}`,
    );
    const txn = { then: [{ operation: { case: "put" as const, value: { key: bytes("app/a"), leaseId } } }] };
    await failure("PERMISSION_DENIED", kv.txn(txn, as(writer)), `attached to lease ${leaseId}`);
    await failure("PERMISSION_DENIED", leases.revoke({ leaseId }, as(writer)), "the role writer for all keys");
    await failure("PERMISSION_DENIED", leases.grant({ ttlMs: 60_000 }, as(reader)));
    await failure("PERMISSION_DENIED", collect(leases.listLeases({}, as(writer))), "the role reader for all keys");
    expect((await collect(leases.listLeases({}, as(admin)))).flatMap((each) => each.leases)).toHaveLength(1);
    expect((await leases.revoke({ leaseId }, as(all))).deleted).toBe(2n);
  });
});

test("a call without a rule is refused, even to a member", async () => {
  const { access } = await serveGuarded(callers);
  const call = { path: "/cairn.v1.Other/Do", peer: "p", isIngress: false, certificate: undefined, access: undefined };
  for (const each of [all, admin, peer]) {
    const metadata = { get: (key: string) => (key === "authorization" ? as(each).metadata.authorization : undefined) };
    const context = { ...call, metadata } as unknown as Parameters<typeof access.admit>[0];
    await failure("PERMISSION_DENIED", () => access.admit(context, false), "a rule for this method");
  }
});

test("an ingress process shows clients, and no members", async () => {
  const { access } = await serveGuarded(callers);
  const path = "/cairn.v1.KeyValueService/Session";
  const metadata = { get: (key: string) => (key === "cairn-ingress" ? "calls" : undefined) };
  const stream = { path, peer: "unix", metadata, keepChecking: (check: () => void) => check(), onEnd: () => {} };
  const call = { path: "/cairn.v1.KeyValueService/Put", peer: "10.0.0.1:1" };
  const context = { ...stream, isIngress: true } as unknown as Parameters<typeof access.admit>[0];
  access.admit(context, true);
  const shown = (caller: TestCaller) => {
    return context.access!.shown({ authorization: as(caller).metadata.authorization, certificate: undefined }, call);
  };
  expect(shown(writer).name).toBe("writer");
  await failure("PERMISSION_DENIED", () => shown(peer), "members use the node's own port");
  await failure("UNAUTHENTICATED", () => shown(testCaller("nobody")));
  // The same metadata from anybody else says nothing.
  const other = { ...stream, isIngress: false } as unknown as Parameters<typeof access.admit>[0];
  await failure("UNAUTHENTICATED", () => access.admit(other, true));
  // An ingress process calls nothing but Session itself.
  const put = { ...stream, isIngress: true, path: call.path } as unknown as Parameters<typeof access.admit>[0];
  await failure("PERMISSION_DENIED", () => access.admit(put, false), "anything but Session");
});

test("a client without credentials learns so at once", async () => {
  const { server } = await serveGuarded(callers);
  const client = new CairnClient({ endpoints: [server.address], timeoutMs: 60_000 });
  onTestFinished(() => client.close());
  const startedMs = performance.now();
  await failure("UNAUTHENTICATED", client.put("app/a", "1"), "no credentials came with the call");
  await failure("UNAUTHENTICATED", client.get("app/a"));
  await failure("UNAUTHENTICATED", client.get("app/a", { stale: true }));
  await failure("UNAUTHENTICATED", collect(client.range({ prefix: "app/" })));
  await failure("UNAUTHENTICATED", client.leases.grant({ ttlMs: 5_000 }));
  await failure("UNAUTHENTICATED", collect(client.watch({ prefix: "app/" })));
  expect(performance.now() - startedMs).toBeLessThan(30_000);
});
