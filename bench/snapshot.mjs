// Whether anybody notices that a snapshot is taken: latency of writes, stalls of the node's main thread, speed and memory.
//
//   npm run build && node bench/snapshot.mjs [--gib 1] [--value-bytes 1024] [--callers 32] [--rounds 3] [DIRECTORY]
//
// One node, the only voter, in a process of its own, holds a state of --gib GiB (default 0.125). --callers callers of this process put
// random ones of its keys over gRPC, one call each in flight. In each round: a bare write of as many bytes to the same disk, a
// snapshot without load, writes without a snapshot, writes during one. DIRECTORY: on the disk to measure (default: the system's
// temporary one).
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { KeyValueService } from "../dist/gen/cairn/v1/kv_pb.js";
import { openChannel } from "../dist/src/rpc/client.js";
import { add, emptyPhase, longest, median, megabytes, percentile, row, seconds, sleep } from "./support/figures.mjs";
import { startLoad } from "./support/load.mjs";
import { watchMemory } from "./support/memory.mjs";
import { startIdle, startNode, watched } from "./support/node.mjs";
import { QUIET_MS, snapshotOptions, WARM_UP_MS } from "./support/snapshot_options.mjs";

const { keys, valueBytes, callers, rounds, parent } = snapshotOptions();
const directory = mkdtempSync(join(parent, "cairn-bench-snapshot-"));
const node = await startNode({ id: "n1", directory });
const idleProcess = await startIdle();
const memory = watchMemory(node.pid);
try {
  await run();
} finally {
  memory.stop();
  node.kill();
  idleProcess.kill();
  rmSync(directory, { recursive: true, force: true });
}

async function run() {
  const filled = performance.now();
  await node.ask("fill", { keys, valueBytes });
  console.log(`${keys} keys of ${valueBytes} bytes, filled in ${seconds(performance.now() - filled)}`);
  const channel = openChannel(node.address);
  const load = startLoad(channel.client(KeyValueService), { keys, valueBytes, callers });
  await sleep(WARM_UP_MS);
  await load.pause();

  const quiet = emptyPhase();
  const during = emptyPhase();
  const idle = { takes: [], bare: [], delays: [] };
  // The first one makes the snapshot's size known.
  let { bytes } = await node.ask("take");
  memory.reset();
  for (let round = 0; round < rounds; round++) {
    idle.bare.push(bytes / (await node.ask("writeBare", { bytes })).seconds);
    await load.for(100);
    const taken = await watched(node, idleProcess, () => node.ask("take"));
    bytes = taken.result.bytes;
    idle.takes.push(bytes / taken.result.seconds);
    idle.delays.push(taken);

    add(quiet, load, await watched(node, idleProcess, () => load.for(QUIET_MS)));
    load.start();
    const busy = await watched(node, idleProcess, () => node.ask("take"));
    await load.pause();
    add(during, load, busy);
    during.speeds.push(busy.result.bytes / busy.result.seconds);
  }
  console.log(`snapshot of ${(bytes / 1e6).toFixed(0)} MB, ${callers} callers, ${rounds} rounds`);
  console.table([row("no snapshot", quiet), row("during a snapshot", during)]);
  const ratio = percentile(during.times, 0.99) / percentile(quiet.times, 0.99);
  console.log(`p99 of writes during a snapshot: ${ratio.toFixed(2)} times that without`);
  const [bare, taking] = [median(idle.bare), median(idle.takes)];
  console.log(
    `taking: ${megabytes(taking)} without load, ${megabytes(median(during.speeds))} under load; ` +
      `bare write of as many bytes: ${megabytes(bare)} (${(taking / bare).toFixed(2)} of it)`,
  );
  console.log(`event loop, snapshot without load: ${longest(idle.delays)}`);
  const restored = await watched(node, idleProcess, () => node.ask("restore"));
  console.log(`restoring: ${megabytes(bytes / restored.result.seconds)}; event loop: ${longest([restored])}`);
  console.log(`peak memory of the node: ${memory.summary()}`);
  channel.close();
  await node.ask("stop");
}
