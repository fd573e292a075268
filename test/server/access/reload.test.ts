import { writeFile } from "node:fs/promises";
import * as grpc from "@grpc/grpc-js";
import { expect, onTestFinished, test } from "vitest";
import { CairnClient } from "../../../src/client/client.js";
import { tokenHash } from "../../../src/server/access/tokens.js";
import { healthService } from "../../../src/server/discovery/health.js";
import { deferred, failure, isSettled, until } from "../../support/conditions.js";
import { replaceFile } from "../../support/disk/replace_file.js";
import { bytes } from "../../support/nodes/acting_leader.js";
import { as, serveGuarded, testCaller } from "../../support/nodes/guarded.js";
import { collect } from "../../support/nodes/served_node.js";
import { putCall } from "../session_support.js";

const alice = testCaller("alice", { role: "writer" });
const bob = testCaller("bob", { role: "reader" });
const admin = testCaller("ops", { role: "admin" });

/** Reads an iterable in the background. */
function reading<Value>(values: AsyncIterable<Value>) {
  const found: Value[] = [];
  const ended = (async () => {
    for await (const value of values) found.push(value);
  })();
  ended.catch(() => {});
  return { found, ended };
}

test("open streams are judged by the new rules after a reload", async () => {
  const { kv, leases, server, reload } = await serveGuarded([alice, bob], { health: "known" });
  const watch = reading(kv.watch({ prefix: bytes("app/") }, as(bob)));
  const wide = reading(kv.watch({}, as(bob)));
  const own = reading(kv.watch({ prefix: bytes("app/") }, as(alice)));
  const session = kv.session(as(alice));
  const answers = reading(session.responses);
  await session.send({ clientId: "c1" });
  const bobs = kv.session(as(bob));
  const bobsAnswers = reading(bobs.responses);
  await bobs.send({ clientId: "c2" });
  const keeping = leases.keepAlive(as(alice));
  const kept = reading(keeping.responses);
  await keeping.send({ leaseIds: [77n] });
  const Health = grpc.makeGenericClientConstructor(healthService(), "Health");
  const health = new Health(server.address, grpc.credentials.createInsecure());
  onTestFinished(() => health.close());
  const metadata = new grpc.Metadata();
  metadata.set("authorization", as(bob).metadata.authorization);
  const healthEnd = deferred<number>();
  const healthSeen = deferred();
  health.Watch!({ service: "" }, metadata)
    .on("data", () => healthSeen.resolve())
    .on("error", (error: grpc.ServiceError) => healthEnd.resolve(error.code));
  const everyStream = () => [watch, wide, own, answers, bobsAnswers, kept].every(({ found }) => found.length > 0);
  await until(everyStream, "all streams have begun");
  await healthSeen.promise;

  // Bob keeps a part of what he had: only the stream that needs the rest ends.
  await reload([alice, { ...bob, grants: [{ role: "reader", prefixes: ["app/"] }] }]);
  await failure("PERMISSION_DENIED", wide.ended, "bob lacks the role reader for all keys");
  await kv.put({ key: bytes("app/1"), value: bytes("1") }, as(alice));
  await until(() => watch.found.length > 1 && own.found.length > 1, "the narrow watches are told");

  // Bob is gone, and Alice no longer writes everywhere.
  await reload([{ ...alice, grants: [{ role: "writer", prefixes: ["app/"] }] }]);
  await failure("UNAUTHENTICATED", watch.ended, "no longer has the credentials with which the stream began");
  await failure("UNAUTHENTICATED", bobsAnswers.ended, "no longer has the credentials");
  expect(await healthEnd.promise).toBe(grpc.status.UNAUTHENTICATED);
  await failure("UNAUTHENTICATED", kv.get({ key: bytes("app/1") }, as(bob)));
  await session.send({ calls: [putCall(1, "other/1", "1"), putCall(2, "app/2", "1")] });
  await until(() => answers.found.flatMap((each) => each.answers).length === 2, "both calls are answered");
  const outcomes = answers.found.flatMap((each) => each.answers.map(({ answer }) => answer.case));
  expect(outcomes.sort()).toEqual(["error", "put"]);
  expect(await isSettled(own.ended)).toBe(false);
  expect(await isSettled(kept.ended)).toBe(false);

  // Alice is a reader now: her keep-alives and writes end.
  await reload([{ ...alice, grants: [{ role: "reader" }] }]);
  await failure("PERMISSION_DENIED", kept.ended, "alice lacks the role writer");
  await failure("PERMISSION_DENIED", kv.put({ key: bytes("app/1") }, as(alice)));
  expect(await isSettled(own.ended)).toBe(false);
});

test("a client whose token is replaced notices nothing", async () => {
  const { server, reload } = await serveGuarded([alice]);
  const { token: first, name } = alice;
  const second = testCaller("alice").token;
  let token = first;
  const client = new CairnClient({ endpoints: [server.address], token: () => token });
  onTestFinished(() => client.close());
  const keys: string[] = [];
  const watch = client.watch({ prefix: "app/" });
  const watching = (async () => {
    for await (const event of watch) if (event.type === "put") keys.push(event.key);
  })();
  watching.catch(() => {});
  await watch.ready();
  await client.put("app/1", "1");
  const both = [tokenHash(first), tokenHash(second)];
  const file = (tokens: readonly string[]) => JSON.stringify({ callers: [{ name, tokens, grants: alice.grants }] });
  await reload(file(both));
  token = second;
  await reload(file([tokenHash(second)]));
  await client.put("app/2", "2");
  await until(() => keys.length === 2, "the watch goes on");
  expect(keys).toEqual(["app/1", "app/2"]);
  // The token is gone for good: now both must be told.
  await reload(file([tokenHash(testCaller("alice").token)]));
  await failure("UNAUTHENTICATED", watching);
  await failure("UNAUTHENTICATED", client.put("app/3", "3"));
});

test("a changed file that is not valid is reported, and the rules stay", async () => {
  const { kv, file, lines, access, reload } = await serveGuarded([alice]);
  await replaceFile(file, '{"callers": [{"name": "alice"}]}');
  await until(
    () => lines.some(({ reason }) => `${reason}`.includes("callers[0] has neither")),
    "the error is reported",
  );
  expect(access.generation).toBe(0);
  await kv.put({ key: bytes("a") }, as(alice));
  await writeFile(file, "");
  await until(() => lines.some(({ reason }) => `${reason}`.includes("it is not JSON")), "the next one, too");
  await reload([bob]);
  await failure("UNAUTHENTICATED", kv.put({ key: bytes("a") }, as(alice)));
  expect((await collect(kv.range({}, as(bob)))).flatMap(({ kvs }) => kvs)).toHaveLength(1);
});

test("admin calls and refusals leave one line each in the audit, without keys", async () => {
  const { kv, admin: operators, lines, clock } = await serveGuarded([alice, admin]);
  const audited = (kind: string) => lines.filter(({ audit }) => audit === kind);
  await operators.takeSnapshot({}, as(admin));
  await failure("NOT_FOUND", operators.cancelTransfer({ id: "none" }, as(admin)));
  await operators.getStatus({}, as(alice));
  expect(audited("admin")).toEqual([
    expect.objectContaining({ caller: "ops", method: "/cairn.v1.AdminService/TakeSnapshot", code: "OK" }),
    expect.objectContaining({ caller: "ops", method: "/cairn.v1.AdminService/CancelTransfer", code: "NOT_FOUND" }),
  ]);
  expect(audited("admin")[0]!.address).toMatch(/^127\.0\.0\.1:\d+$/);
  await failure("PERMISSION_DENIED", operators.compact({}, as(alice)));
  for (let at = 0; at < 5; at++) await failure("PERMISSION_DENIED", kv.get({ key: bytes("secret/name") }, as(admin)));
  await failure(
    "UNAUTHENTICATED",
    kv.get({ key: bytes("secret/name") }, { metadata: { authorization: "Bearer wrong" } }),
  );
  const refusals = audited("refused");
  expect(refusals.map(({ caller, method, code }) => [caller, method, code])).toEqual([
    ["alice", "/cairn.v1.AdminService/Compact", "PERMISSION_DENIED"],
    ["ops", "/cairn.v1.KeyValueService/Get", "PERMISSION_DENIED"],
    ["unknown", "/cairn.v1.KeyValueService/Get", "UNAUTHENTICATED"],
  ]);
  expect(JSON.stringify(lines)).not.toMatch(/secret\/name|wrong/);
  clock.advance(10_000);
  expect(audited("refused").slice(3)).toEqual([expect.objectContaining({ caller: "ops", repeats: 4 })]);
});
