import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { inRepository, startNode, startProcess } from "../support/processes/processes.js";
import { clientOf, deadAddress, Relay } from "./support.js";

async function node(id = "n1") {
  const data = await mkdtemp(join(tmpdir(), "cairn-client-"));
  onTestFinished(() => rm(data, { recursive: true, force: true }));
  return startNode({ id, data });
}

/** Starts a module that imports the built package. */
function start(source: string) {
  const library = JSON.stringify(inRepository("dist/src/client.js"));
  const text = `import { once } from "node:events"; import { setImmediate as nextTurn } from "node:timers/promises"; ${source.replace("cairn", library)}`;
  return startProcess(process.execPath, ["--input-type=module", "--eval", text]);
}

test("a program that has closed its client exits", async () => {
  const { address } = await node();
  const program = start(`
    import { CairnClient } from cairn;
    const client = new CairnClient({ endpoints: ["${address}"] });
    await client.put("a", { json: 1 });
    console.log((await client.get("a")).json(), (await client.get("a", { stale: true })).text());
    for await (const { key } of client.range()) console.log(key);
    await client[Symbol.asyncDispose]();
  `);
  const exit = await program.ended();
  expect([program.stdout, program.stderr, exit]).toEqual(["1 1\na\n", "", { code: 0, signal: null }]);
});

test("a program that has not closed its client exits as soon as no call is in flight", async () => {
  const { address } = await node();
  const program = start(`
    import { CairnClient } from cairn;
    const client = new CairnClient({ endpoints: ["${address}"] });
    await client.put("a", "1");
    await client.get("a", { stale: true });
    await client.status();
    for await (const { key } of client.range()) console.log(key);
    console.log("idle");
    client.put("b", "2").then(() => client.get("b", { stale: true })).then((found) => console.log(found.text()));
  `);
  const exit = await program.ended();
  expect([program.stdout, program.stderr, exit]).toEqual(["a\nidle\n2\n", "", { code: 0, signal: null }]);
});

test("a TLS handshake that does not end keeps no program alive", async () => {
  const server = createServer((socket) => void socket.on("error", () => {}).resume());
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  const program = start(`
    import { CairnClient } from cairn;
    const { port } = ${JSON.stringify(server.address())};
    const client = new CairnClient({ endpoints: ["127.0.0.1:" + port], timeoutMs: 700, tls: {} });
    client.get("a").catch(({ code }) => console.log(code));
  `);
  const exit = await program.ended();
  expect([program.stdout, program.stderr, exit]).toEqual(["TIMEOUT\n", "", { code: 0, signal: null }]);
});

test("a call to a cluster that does not answer keeps its program alive until the call's time is up", async () => {
  const program = start(`
    import { CairnClient } from cairn;
    const client = new CairnClient({ endpoints: ["${await deadAddress()}"], timeoutMs: 700 });
    const said = ({ code }) => console.log(code);
    client.put("a", "1").catch(said);
    client.get("a", { stale: true }).catch(said);
    client.range().next().catch(said);
  `);
  const exit = await program.ended();
  expect([program.stdout, program.stderr, exit]).toEqual([
    "TIMEOUT\nTIMEOUT\nTIMEOUT\n",
    "",
    { code: 0, signal: null },
  ]);
});

test("a process that was suspended accepts the answers that came meanwhile, although their time limits have passed", async () => {
  const { address } = await node();
  const relay = await Relay.to(address);
  const program = start(`
    import { CairnClient } from cairn;
    const client = new CairnClient({ endpoints: ["${relay.address}"] });
    await client.put("a", "0");
    console.log("connected");
    await once(process.stdin, "data");
    const limit = { timeoutMs: 1000 };
    const calls = [client.compareAndSet("a", { value: "0" }, "1", limit), client.get("b", limit)];
    // Calls are sent at the end of the turn in which they are made.
    for (let turn = 0; turn < 3; turn++) await nextTurn();
    console.log("called");
    const [swapped, found] = await Promise.all(calls);
    console.log(swapped.swapped, found);
    await client.close();
    process.stdin.destroy();
  `);
  await program.waitFor(/connected/);
  relay.holdAnswers();
  await program.send("go");
  await program.waitFor(/called/);
  process.kill(program.pid, "SIGSTOP");
  relay.passAnswers();
  // Twice as long as its calls may take.
  await new Promise((resolve) => setTimeout(resolve, 2000));
  process.kill(program.pid, "SIGCONT");
  const exit = await program.ended();
  expect([program.stdout, program.stderr, exit]).toEqual([
    "connected\ncalled\ntrue undefined\n",
    "",
    { code: 0, signal: null },
  ]);
  expect(relay.connections).toBe(1);
});

test("clients wait for a node that was ended by kill -9, and every write takes effect once", async () => {
  const data = await mkdtemp(join(tmpdir(), "cairn-client-"));
  onTestFinished(() => rm(data, { recursive: true, force: true }));
  const first = await startNode({ id: "n1", data });
  const client = clientOf(first.address);
  const caller = async (name: string) => {
    for (let count = 0; count < 60; count++) {
      const expected = count === 0 ? ({ absent: true } as const) : { value: `${count - 1}` };
      expect(await client.compareAndSet(name, expected, `${count}`)).toMatchObject({ swapped: true });
    }
  };
  const callers = Promise.all(Array.from({ length: 16 }, (_, at) => caller(`caller-${at}`)));
  await client.get("caller-0");
  await first.kill();
  await startNode({ id: "n1", data, listen: first.address });
  await callers;
  const counts = [];
  for await (const entry of client.range({ prefix: "caller-" })) counts.push(entry.text());
  expect(counts).toEqual(Array.from({ length: 16 }, () => "59"));
});
