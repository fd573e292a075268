import { setTimeout as pause } from "node:timers/promises";
import { AdminService, type SnapshotInfo } from "../../gen/cairn/v1/admin_pb.js";
import { CairnError, hasCode } from "../base/errors.js";
import { limits } from "../base/limits.js";
import type { AdminClient } from "../client/admin/cluster_admin.js";
import type { MissingSnapshot, SnapshotSource, SnapshotTaker } from "../node/open/healing.js";
import { ChannelPool } from "../rpc/channel_pool.js";
import type { MemberCredentials } from "../rpc/security/member_credentials.js";
import type { Logger } from "../system/logger.js";

/** Timeout of a question to a member about its snapshots, in milliseconds. */
const LOOK_TIMEOUT_MS = 2_000;
/** Pause before all members are asked again, in milliseconds; it doubles up to the longest. */
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 4_000;

const ADVICE =
  "Start the other members, or give their addresses (peerAddresses, or --peer-addresses on the command line), and start this node again. docs/operations.md, 'A damaged disk', has more.";

/**
 * Returns a source that fetches a suitable snapshot from any other member, or has one take a
 * snapshot if none has a suitable one. Asks all members repeatedly for up to `patienceMs`; a
 * transfer under way is not cut off.
 */
export function peerSnapshotSource(options: {
  /** Addresses of members by id, besides those known from the disk; these take precedence. */
  readonly addresses: Readonly<Record<string, string>>;
  readonly patienceMs: number;
  readonly logger: Logger;
  readonly signal: AbortSignal;
  /** Credentials of the connections to members. */
  readonly members?: MemberCredentials | undefined;
}): SnapshotSource {
  const { patienceMs, logger, signal } = options;
  return async (missing, take) => {
    const peers = peersOf(missing, options.addresses);
    if (patienceMs === 0 || peers.length === 0) throw missing.refusal;
    logger.warn(
      { reason: missing.refusal.text, peers: peers.map(([id, address]) => `${id}=${address}`) },
      "a snapshot is missing or damaged: asking the other members for one",
    );
    const channels = new ChannelPool({ connectTimeoutMs: LOOK_TIMEOUT_MS }, options.members);
    const deadline = performance.now() + patienceMs;
    try {
      for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
        const reasons: string[] = [];
        for (const [id, address] of peers) {
          try {
            const index = await fetchFrom(channels.get(address, id).client(AdminService), missing, take, signal);
            logger.warn(
              { peer: id, snapshotIndex: index },
              "fetched a snapshot from another member to replace the missing one",
            );
            return;
          } catch (error) {
            if (signal.aborted || isOwnDisk(error)) throw error;
            reasons.push(`${id}: ${CairnError.from(error).text}`);
          }
        }
        if (performance.now() + pauseMs > deadline) throw givenUp(missing, patienceMs, reasons);
        logger.warn({ reason: reasons.join("; ") }, "no member has given a snapshot yet, asking again");
        await pause(pauseMs, undefined, { signal });
      }
    } finally {
      channels.close();
    }
  };
}

function peersOf({ nodeId, members }: MissingSnapshot, given: Readonly<Record<string, string>>): [string, string][] {
  const known = members.map(({ id, address }) => [id, address] as const);
  const all = new Map([...known, ...Object.entries(given)]);
  return [...all].filter(([id, address]) => id !== nodeId && address !== "");
}

/** Fetches a snapshot from one member; returns its index. */
async function fetchFrom(
  peer: AdminClient,
  { nodeId, clusterId, leastIndex }: MissingSnapshot,
  take: SnapshotTaker,
  signal: AbortSignal,
): Promise<number> {
  const status = await peer.getStatus({}, { signal, timeoutMs: LOOK_TIMEOUT_MS });
  if (status.clusterId !== clusterId || status.nodeId === nodeId) {
    const text = `node ${status.nodeId} of cluster ${status.clusterId} answers there, which is not another member of ${clusterId}`;
    throw new CairnError("WRONG_CLUSTER", text);
  }
  const info = (await newestOf(peer, leastIndex, signal)) ?? (await haveOneTaken(peer, leastIndex, signal));
  const index = Number(info.index);
  const offer = { index, term: Number(info.term), fileBytes: Number(info.fileBytes), sha256: info.sha256 };
  await take(offer, download(peer, info.index, signal));
  return index;
}

async function newestOf(peer: AdminClient, leastIndex: number, signal: AbortSignal): Promise<SnapshotInfo | undefined> {
  const { snapshots } = await peer.listSnapshots({}, { signal, timeoutMs: LOOK_TIMEOUT_MS });
  return snapshots.find(({ index }) => index >= leastIndex);
}

async function haveOneTaken(peer: AdminClient, leastIndex: number, signal: AbortSignal): Promise<SnapshotInfo> {
  const { snapshot } = await peer.takeSnapshot({}, { signal });
  if (snapshot !== undefined && snapshot.index >= leastIndex) return snapshot;
  const text = `its newest snapshot is at index ${snapshot?.index ?? 0}, and one at ${leastIndex} or above is needed`;
  throw new CairnError("NOT_FOUND", text);
}

/** Returns the file's bytes. The duration is unlimited as long as bytes keep coming. */
async function* download(peer: AdminClient, index: bigint, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const idle = new AbortController();
  const text = `no data has arrived for ${limits.transferIdleMs} ms`;
  const timer = setTimeout(() => idle.abort(new CairnError("TIMEOUT", text)), limits.transferIdleMs);
  try {
    const settings = { signal: AbortSignal.any([signal, idle.signal]) };
    for await (const { data } of peer.downloadSnapshot({ index }, settings)) {
      timer.refresh();
      if (data.byteLength > 0) yield data;
    }
  } finally {
    clearTimeout(timer);
  }
}

/** Returns whether an error is this node's own trouble, which no other member can help with. */
function isOwnDisk(error: unknown): boolean {
  return hasCode(error, "DISK_FULL") || hasCode(error, "STORAGE_FAILED") || !(error instanceof CairnError);
}

function givenUp({ refusal }: MissingSnapshot, patienceMs: number, reasons: readonly string[]): CairnError {
  const asked = `No other member has given a snapshot in ${patienceMs} ms: ${reasons.join("; ")}.`;
  return new CairnError(refusal.code, `${refusal.text} ${asked} ${ADVICE}`, { cause: refusal });
}
