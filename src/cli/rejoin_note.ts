import { resolve } from "node:path";
import { CairnError } from "../errors.js";
import { nodeFileSystem, readSmallFile, writeSmallFile } from "../storage/fs.js";

/** In the data directory while a node that has lost its disk is on its way back into its cluster. */
const NOTE = "rejoining.json";

/** How a node that has lost its disk comes back. */
export interface Rejoin {
  readonly clusterId: string;
  /** It was a voter, and is to be one again. */
  readonly promote: boolean;
}

/** Undefined when there is no such note. @throws CairnError DATA_DIRECTORY when it is damaged */
export async function readRejoin(data: string): Promise<Rejoin | undefined> {
  const file = `${resolve(data)}/${NOTE}`;
  if (!(await nodeFileSystem.exists(file))) return undefined;
  const { clusterId, promote } = parsed(await readSmallFile(nodeFileSystem, file));
  if (typeof clusterId === "string" && typeof promote === "boolean") return { clusterId, promote };
  throw new CairnError("DATA_DIRECTORY", `${file} is damaged. Move the data directory away, and start the node again.`);
}

/** Durable on return. */
export async function writeRejoin(data: string, rejoin: Rejoin): Promise<void> {
  await nodeFileSystem.makeDirectory(resolve(data));
  await writeSmallFile(nodeFileSystem, resolve(data), NOTE, Buffer.from(`${JSON.stringify(rejoin)}\n`));
}

/** The node is back. */
export async function forgetRejoin(data: string): Promise<void> {
  await nodeFileSystem.unlink(`${resolve(data)}/${NOTE}`);
  await nodeFileSystem.syncDirectory(resolve(data));
}

function parsed(bytes: Buffer): Partial<Rejoin> {
  try {
    return (JSON.parse(bytes.toString()) ?? {}) as Partial<Rejoin>;
  } catch {
    return {};
  }
}
