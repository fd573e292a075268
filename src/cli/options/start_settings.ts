import type { Command } from "commander";
import { isId } from "../../base/ids.js";
import type { SnapshotPolicy } from "../../node/snapshots/scheduler.js";
import type { SnapshotCompression } from "../../peers/install/install_messages.js";
import type { ElectionMode, ReadMode } from "../../raft/timing.js";
import type { Membership } from "../../raft/types.js";
import type { StateKind } from "../../server/kv/state_kind.js";
import type { FloodLimits } from "../../server/server.js";
import type { LogLevel } from "../output/log.js";
import { derivedClusterId, memberList } from "./cluster_ids.js";
import { applyConfigFile } from "./config_file.js";
import { checkExposed, type TlsOptions, type TlsSettings, tlsOf } from "./node_tls.js";

const DEFAULT_LISTEN = "127.0.0.1:7101";

/**
 * Choices for a node that has lost data which it acknowledged, or whose directory is new although
 * its cluster knows its name.
 */
export const lostDiskModes = ["rejoin", "refuse"] as const;

export type LostDiskMode = (typeof lostDiskModes)[number];

/** The options of `cairn start`, as they are given. */
export interface StartOptions extends TlsOptions {
  readonly config?: string;
  readonly id?: string;
  readonly data?: string;
  readonly listen?: string;
  readonly ingress: number;
  readonly ingressListen?: string;
  readonly http?: string;
  readonly httpHosts?: readonly string[];
  readonly advertise?: string;
  readonly cluster?: ReadonlyMap<string, string>;
  readonly join?: readonly string[];
  readonly peerAddresses?: ReadonlyMap<string, string>;
  readonly clusterId?: string;
  readonly elections: ElectionMode;
  readonly reads: ReadMode;
  readonly tickMs: number;
  readonly electionTicks: number;
  readonly snapshotEntries?: number | false;
  readonly snapshotLogBytes: number | false;
  readonly snapshotLogRatio: number | false;
  readonly snapshotAge: number | false;
  readonly trailingLogBytes: number;
  readonly pinnedLogBytes: number;
  readonly snapshotBandwidth?: number;
  readonly snapshotCompression: "none" | "deflate";
  readonly segmentBytes: number;
  readonly maxConnections: number;
  readonly maxConnectionsPerAddress: number;
  readonly maxStreams: number;
  readonly maxWaitingBytes: number;
  readonly maxUnreadBytes: number;
  readonly state: StateKind;
  readonly lostDisk: LostDiskMode;
  readonly healTimeoutMs: number;
  readonly access?: string;
  readonly peerTokenFile?: string;
  readonly logLevel: LogLevel;
  readonly json?: boolean;
}

/** The settings that result from the options. */
export interface StartSettings
  extends TlsSettings,
    Pick<
      StartOptions,
      | "elections"
      | "reads"
      | "tickMs"
      | "electionTicks"
      | "trailingLogBytes"
      | "pinnedLogBytes"
      | "segmentBytes"
      | "state"
      | "lostDisk"
      | "healTimeoutMs"
      | "access"
      | "peerTokenFile"
      | "logLevel"
    > {
  /** Bytes per second; undefined: no limit. */
  readonly snapshotBandwidth: number | undefined;
  readonly snapshotCompression: SnapshotCompression | undefined;
  readonly id: string;
  readonly data: string;
  readonly listen: string;
  /** Processes that serve clients on an address of theirs. */
  readonly ingress: { readonly processes: number; readonly listen: string } | undefined;
  /** HTTP port for operators. */
  readonly monitor: { readonly listen: string; readonly hosts: readonly string[] } | undefined;
  /** Address at which others reach the node; undefined: the address on which it listens. */
  readonly advertise: string | undefined;
  readonly clusterId: string | undefined;
  /** Members of the cluster, if it is created now: as --cluster gives them, or this node alone. */
  readonly members: Membership;
  /** Id of a cluster that --cluster creates, unless clusterId is given. */
  readonly derivedClusterId: string | undefined;
  /** Members of the cluster to join. */
  readonly join: readonly string[] | undefined;
  readonly peerAddresses: Readonly<Record<string, string>>;
  readonly snapshots: SnapshotPolicy | false;
  /** Limits against floods. */
  readonly limits: Partial<FloodLimits>;
  readonly json: boolean;
}

/**
 * Merges the options with the config file, and checks rules that involve several options. An
 * invalid combination is reported as an error of the command line.
 */
export function settingsOf(given: StartOptions, command: Command): StartSettings {
  if (given.config !== undefined) applyConfigFile(command, given.config);
  const options = command.opts<StartOptions>();
  const fail = (text: string): never => command.error(`error: ${text}`);
  const id = options.id ?? fail("required option '--id <name>' not specified");
  const data = options.data ?? fail("required option '--data <dir>' not specified");
  const { cluster, join, advertise } = options;
  if (cluster !== undefined && join !== undefined)
    fail("option '--cluster <list>' cannot be used with '--join <list>'");
  const own = cluster === undefined ? undefined : ownAddress(cluster, id, fail);
  if (own !== undefined && advertise !== undefined && own !== advertise) {
    fail(`--advertise is ${advertise}, but --cluster says that ${id} is at ${own}`);
  }
  const listen = options.listen ?? own ?? DEFAULT_LISTEN;
  const reachedAt = advertise ?? own ?? (isFixed(listen) ? listen : undefined);
  if (join !== undefined && reachedAt === undefined && isWildcard(listen)) {
    fail(`--listen ${listen} does not say where others reach this node: give --advertise host:port`);
  }
  const members = cluster === undefined ? undefined : membersOf(cluster);
  const security = tlsOf(options, fail);
  const ingress = ingressOf(options, listen, fail);
  checkExposed("--listen", listen, security, fail);
  if (ingress !== undefined) checkExposed("--ingress-listen", ingress.listen, security, fail);
  return {
    ...options,
    ...security,
    id,
    data,
    listen,
    monitor: options.http === undefined ? undefined : { listen: options.http, hosts: options.httpHosts ?? [] },
    ingress,
    advertise: reachedAt,
    members: members ?? [{ id, address: reachedAt ?? "", role: "voter" }],
    derivedClusterId: members && derivedClusterId("cluster", memberList(members)),
    join,
    peerAddresses: Object.fromEntries(options.peerAddresses ?? []),
    clusterId: options.clusterId,
    snapshotBandwidth: options.snapshotBandwidth,
    snapshotCompression: options.snapshotCompression === "none" ? undefined : options.snapshotCompression,
    snapshots: policyOf(options),
    limits: {
      connections: options.maxConnections,
      connectionsPerAddress: options.maxConnectionsPerAddress,
      streams: options.maxStreams,
      requestBytes: options.maxWaitingBytes,
      answerBytes: options.maxUnreadBytes,
    },
    json: options.json === true,
  };
}

function ownAddress(cluster: ReadonlyMap<string, string>, id: string, fail: (text: string) => never): string {
  const wrong = [...cluster.keys()].find((name) => !isId(name));
  if (wrong !== undefined) fail(`--cluster: ${JSON.stringify(wrong)} is not the name of a node`);
  const names = [...cluster.keys()].join(", ");
  const advice = "Start a node that joins later with --join";
  return cluster.get(id) ?? fail(`--cluster names ${names}, but not this node, ${id}. ${advice}`);
}

function ingressOf(
  { ingress, ingressListen }: StartOptions,
  listen: string,
  fail: (text: string) => never,
): StartSettings["ingress"] {
  if (ingress === 0) {
    return ingressListen === undefined
      ? undefined
      : fail(`--ingress-listen is ${ingressListen}, but no process would serve there: give --ingress, too`);
  }
  if (ingressListen === undefined) {
    fail(`--ingress ${ingress} needs --ingress-listen host:port, the address for clients; --listen is for the members`);
  }
  if (ingressListen === listen && !listen.endsWith(":0")) {
    fail(`--ingress-listen and --listen are both ${listen}: the ingress processes need an address of their own`);
  }
  return { processes: ingress, listen: ingressListen as string };
}

function membersOf(cluster: ReadonlyMap<string, string>): Membership {
  const members = [...cluster].map(([id, address]) => ({ id, address, role: "voter" }) as const);
  return members.sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** Returns false when no option makes the node take a snapshot automatically. */
function policyOf(options: StartOptions): SnapshotPolicy | false {
  const {
    snapshotEntries: entries,
    snapshotLogBytes: logBytes,
    snapshotLogRatio: logRatio,
    snapshotAge: ageMs,
  } = options;
  return entries === false && logBytes === false && ageMs === false ? false : { entries, logBytes, logRatio, ageMs };
}

/** Tells whether others can reach a listener on this address at the same address. */
function isFixed(listen: string): boolean {
  return !isWildcard(listen) && !listen.endsWith(":0");
}

function isWildcard(listen: string): boolean {
  return /^(0\.0\.0\.0|\[::\]|::|\*):\d+$/.test(listen);
}
