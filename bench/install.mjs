// Whether anybody notices that a follower is brought back by a snapshot: latency of writes, stalls, speed and memory of all three nodes.
//
//   npm run build && node bench/install.mjs [--gib 1] [--value-bytes 1024] [--callers 32] [--rounds 3] [DIRECTORY]
//
// Three nodes, each in a process of its own, all on this machine. The leader and one follower hold a state of --gib GiB (default 0.125),
// the third member starts when what it needs next is trimmed, and gets all of the state again: in each round once without load, and once while
// --callers callers of this process put random keys through the leader, one call each in flight. Beside it, in each round, with as many bytes: a
// bare grpc-js stream of chunks, a bare write to disk, and such a stream that is written to disk.
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { KeyValueService } from "../dist/gen/cairn/v1/kv_pb.js";
import { openChannel } from "../dist/src/rpc/client.js";
import { bareStream } from "./support/bare_stream.mjs";
import { add, emptyPhase, longest, median, megabytes, percentile, row, seconds, sleep } from "./support/figures.mjs";
import { startLoad } from "./support/load.mjs";
import { watchMemory } from "./support/memory.mjs";
import { startIdle, startNode, watched } from "./support/node.mjs";
import { QUIET_MS, snapshotOptions, WARM_UP_MS } from "./support/snapshot_options.mjs";

const { keys, valueBytes, callers, rounds, parent } = snapshotOptions();
const directory = mkdtempSync(join(parent, "cairn-bench-install-"));
const members = await Promise.all(
  ["n1", "n2", "n3"].map(async (id) => ({ id, address: await freeAddress(), role: "voter" })),
);
const idleProcess = await startIdle();
const nodes = new Map();
const memory = new Map();
try {
  await run();
} finally {
  for (const watch of memory.values()) watch.stop();
  for (const node of nodes.values()) node.kill();
  idleProcess.kill();
  rmSync(directory, { recursive: true, force: true });
}

async function run() {
  const leader = await start("n1");
  await start("n2");
  await leader.ask("campaign");
  const filled = performance.now();
  await leader.ask("fill", { keys, valueBytes });
  console.log(`${keys} keys of ${valueBytes} bytes, filled in ${seconds(performance.now() - filled)}`);
  const { bytes } = await leader.ask("take");
  for (const watch of memory.values()) watch.reset();
  const channel = openChannel(members[0].address);
  const load = startLoad(channel.client(KeyValueService), { keys, valueBytes, callers });
  await sleep(WARM_UP_MS);
  await load.pause();

  const [quiet, during] = [emptyPhase(), emptyPhase()];
  const figures = { idle: [], busy: [], stream: [], disk: [], both: [], sent: [], follower: [] };
  for (let round = 0; round < rounds; round++) {
    figures.disk.push(bytes / (await leader.ask("writeBare", { bytes })).seconds);
    figures.stream.push(bytes / (await bareStream(bytes)));
    figures.both.push(bytes / (await bareStream(bytes, join(directory, "stream"))));
    await leaveBehind(leader, load);
    const idle = await install(leader);
    figures.idle.push(bytes / idle.seconds);
    figures.sent.push(bytes / idle.sentSeconds);
    figures.follower.push(idle.followerDelays);
    add(quiet, load, await watched(leader, idleProcess, () => load.for(QUIET_MS)));
    await leaveBehind(leader, load);
    load.start();
    const busy = await watched(leader, idleProcess, () => install(leader));
    await load.pause();
    add(during, load, busy);
    figures.busy.push(bytes / busy.result.seconds);
    figures.follower.push(busy.result.followerDelays);
  }
  report(bytes, quiet, during, figures);
  channel.close();
  for (const node of nodes.values()) await node.ask("stop");
}

function report(bytes, quiet, during, { idle, busy, stream, disk, both, sent, follower }) {
  console.log(`snapshot of ${(bytes / 1e6).toFixed(0)} MB, ${callers} callers, ${rounds} rounds`);
  console.table([row("no installation", quiet), row("during an installation", during)]);
  const ratio = percentile(during.times, 0.99) / percentile(quiet.times, 0.99);
  console.log(`p99 of writes during an installation: ${ratio.toFixed(2)} times that without`);
  const bare = Math.min(median(stream), median(disk));
  console.log(
    `follower in sync, from the start of its process: ${seconds((bytes / median(idle)) * 1_000)} without load ` +
      `(${megabytes(median(idle))}), ${seconds((bytes / median(busy)) * 1_000)} under load (${megabytes(median(busy))})`,
  );
  console.log(
    `sending, without load: ${megabytes(median(sent))}; bare grpc-js stream of chunks: ${megabytes(median(stream))}, bare write: ` +
      `${megabytes(median(disk))} (${(median(sent) / bare).toFixed(2)} of the lower); bare stream to disk: ${megabytes(median(both))} ` +
      `(${(median(sent) / median(both)).toFixed(2)} of it)`,
  );
  console.log(`the follower's event loop: ${longest(follower)}`);
  for (const [id, watch] of memory) console.log(`peak memory of ${id}: ${watch.summary()}`);
}

/** The third member stops, and the log goes on without it, and is trimmed. */
async function leaveBehind(leader, load) {
  await nodes.get("n3")?.ask("stop");
  await load.for(100);
  await leader.ask("take");
}

/** The third member starts, and is in sync on return. */
async function install(leader) {
  const behind = (await leader.ask("position")).snapshot;
  const started = performance.now();
  const follower = await start("n3");
  await follower.ask("watchDelays");
  let sendingSince;
  let sentAt;
  for (;;) {
    const { transfers } = await leader.ask("transfers");
    const now = performance.now();
    for (const { doneBytes, totalBytes } of transfers) {
      sendingSince ??= now;
      if (doneBytes === totalBytes) sentAt ??= now;
    }
    const { commit } = await leader.ask("position");
    const { applied, snapshot } = await follower.ask("position");
    // Under load there is always something that is not applied yet.
    if (snapshot >= behind && applied >= commit - 2 * callers) break;
    await sleep(20);
  }
  const ended = performance.now();
  const followerDelays = await follower.ask("worstDelay");
  return {
    seconds: (ended - started) / 1_000,
    sentSeconds: ((sentAt ?? ended) - (sendingSince ?? started)) / 1_000,
    followerDelays,
  };
}

async function start(id) {
  const node = await startNode({ id, directory, members });
  nodes.set(id, node);
  memory.set(id, watchMemory(node.pid, memory.get(id)));
  return node;
}

/** An address that nobody listens at now. */
function freeAddress() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(`127.0.0.1:${port}`));
    });
  });
}
