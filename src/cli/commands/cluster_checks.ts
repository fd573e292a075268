import { once } from "node:events";
import { createServer } from "node:net";
import { join } from "node:path";
import { CairnError } from "../../base/errors.js";
import type { Membership } from "../../raft/types.js";
import { DataDirectory } from "../../storage/data_dir.js";
import { nodeFileSystem } from "../../system/fs.js";
import { memberList } from "../options/cluster_ids.js";
import type { ClusterOptions } from "./cluster.js";
import { checkCertificates } from "./cluster_tls.js";

// Checks the settings of `cairn cluster` before it starts any node: the error messages of a node
// name the node's own flags, which the user did not give.

/** Flags that each node must have for itself. */
const OWN_FLAGS = [
  "--id",
  "--data",
  "--cluster",
  "--listen",
  "--ingress",
  "--ingress-listen",
  "--advertise",
  "--join",
  "--cluster-id",
  "--config",
];

/** Returns the nodes of a cluster on this machine, in order. */
export function clusterMembers({ basePort, nodes }: ClusterOptions): Membership {
  return Array.from({ length: nodes }, (_, at) => ({
    id: `n${at + 1}`,
    address: `127.0.0.1:${basePort + at}`,
    role: "voter" as const,
  }));
}

export function dataOf({ data }: ClusterOptions, at: number): string {
  return join(data, `n${at + 1}`);
}

/**
 * Checks flags, data directories and ports.
 * @throws CairnError INVALID_ARGUMENT or DATA_DIRECTORY, in the terms of `cairn cluster`
 */
export async function checkCluster(options: ClusterOptions, flags: readonly string[]): Promise<void> {
  const own = flags.find((flag) => OWN_FLAGS.includes(flag.split("=", 1)[0]!));
  if (own !== undefined) {
    const text = `${own} cannot be the same on all nodes: cairn cluster gives each node its own`;
    throw new CairnError("INVALID_ARGUMENT", `${text}. Leave it out, or start the nodes one by one with cairn start.`);
  }
  if (options.certs !== undefined) checkCertificates(options.certs, clusterMembers(options));
  for (let at = 0; at < options.nodes; at++) await checkData(options, at);
  for (let at = 0; at < options.nodes; at++) await checkPort(options, options.basePort + at);
}

async function checkData(options: ClusterOptions, at: number): Promise<void> {
  const identity = await DataDirectory.identityAt(nodeFileSystem, dataOf(options, at));
  if (identity === undefined || identity.members.length === 0) return;
  const found = memberList(identity.members).sort();
  if (found.join() === memberList(clusterMembers(options)).sort().join()) return;
  const wanted = flagsOf(identity.members) ?? `with cairn start --cluster ${found.join(",")}`;
  const text = `${options.data} holds a cluster that was created ${wanted}`;
  throw new CairnError("DATA_DIRECTORY", `${text}: start it the same way, or give another --data`);
}

/** Returns the flags that produce these members, if any do. */
function flagsOf(members: Membership): string | undefined {
  const first = members.find(({ id }) => id === "n1");
  const basePort = Number(first?.address.split(":").at(-1));
  const made = memberList(clusterMembers({ data: "", basePort, nodes: members.length })).sort();
  return made.join() === memberList(members).sort().join()
    ? `with --base-port ${basePort} --nodes ${members.length}`
    : undefined;
}

async function checkPort({ basePort, nodes }: ClusterOptions, port: number): Promise<void> {
  const server = createServer();
  try {
    await once(server.listen(port, "127.0.0.1"), "listening");
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why = code === "EADDRINUSE" ? "is in use" : `cannot be listened on: ${message}`;
    const advice = `give a --base-port with ${nodes === 1 ? "a free port" : `${nodes} free ports`} from it on`;
    const running = "If this cluster runs already, there is nothing to do";
    const text = `port ${port} of ${basePort} to ${basePort + nodes - 1} ${why}: ${advice}. ${running}.`;
    throw new CairnError("INVALID_ARGUMENT", text, { cause: error });
  }
  server.close();
  await once(server, "close");
}
