import { FuzzedCluster } from "../nodes/cluster.js";
import { decoders } from "../targets/decoders/decoders.js";
import { files } from "../targets/files/files.js";
import { GatewayTarget } from "../targets/gateway/gateway.js";
import { Http2Target } from "../targets/http2/http2.js";
import { ServicesTarget } from "../targets/services/services.js";
import { runLane } from "./lane.js";
import { recordCorpus } from "./record.js";
import type { Target } from "./target.js";

// The process that runs some of the targets: it is given one job, and sends its progress and its result.

interface Job {
  readonly targets: readonly string[];
  readonly seed: number;
  readonly ms: number;
  readonly cases?: readonly [first: number, last: number];
}

process.on("disconnect", () => process.exit());
process.on("message", (job: Job | "record") => void work(job));

// A bug of the fuzz must not look like a clean run.
process.on("unhandledRejection", (error) => {
  throw error;
});

async function work(job: Job | "record"): Promise<void> {
  if (job === "record") await recordCorpus((line) => process.stdout.write(`${line}\n`));
  else process.send!({ result: await run(job) });
  process.disconnect();
}

async function run({ targets: names, seed, ms, cases }: Job) {
  // Both kinds of traffic go to one cluster, which starts once.
  const needsCluster = names.some((name) => name === "services" || name === "http2");
  const cluster = needsCluster ? await FuzzedCluster.start() : undefined;
  try {
    const targets = names.map((name) => targetOf(name, cluster));
    const progress = (progress: object) => process.send!({ progress });
    return await runLane(targets, { seed, ms, cases, progress });
  } finally {
    await cluster?.close();
  }
}

function targetOf(name: string, cluster: FuzzedCluster | undefined): Target {
  switch (name) {
    case "decoders":
      return decoders();
    case "files":
      return files();
    case "gateway":
      return new GatewayTarget();
    case "http2":
      return new Http2Target(cluster);
    case "services":
      return new ServicesTarget(cluster);
    default:
      throw new Error(`there is no target ${name}`);
  }
}
