import { isAddress } from "../../base/addresses.js";
import { checkFunction, checkObject, checkOneOf, checkText, checkWholeNumber, invalid } from "../../base/arguments.js";
import { CairnError } from "../../base/errors.js";
import type { StateMachine } from "../../machine/state_machine.js";
import type { NodeOptions } from "../../node/options.js";
import type { NodeTlsFiles } from "../../rpc/security/tls_material.js";
import { checkOwnMachine, type OwnMachine } from "../../server/machine/own_machine.js";
import type { FloodLimits } from "../../server/server.js";
import type { Claim } from "../claim.js";
import type { MemberEvent } from "../events.js";
import type { LaunchOptions } from "../launch.js";
import type { ClusterEvent } from "./cluster_events.js";

/** Milliseconds for which a member that lacks a snapshot asks the others for one. */
const HEAL_TIMEOUT_MS = 60_000;

/** Options of a node that a member passes on to it. */
export type PassedOption =
  | "reads"
  | "tickMs"
  | "electionTicks"
  | "heartbeatTicks"
  | "peerAddresses"
  | "snapshots"
  | "snapshotChunkBytes"
  | "snapshotBandwidth"
  | "snapshotCompression"
  | "transferResumeMs"
  | "segmentBytes"
  | "trailingLogBytes"
  | "pinnedLogBytes"
  | "logger";

/** Names each option, so that the compiler finds one that is missing. */
const PASSED: Readonly<Record<PassedOption, true>> = {
  reads: true,
  tickMs: true,
  electionTicks: true,
  heartbeatTicks: true,
  peerAddresses: true,
  snapshots: true,
  snapshotChunkBytes: true,
  snapshotBandwidth: true,
  snapshotCompression: true,
  transferResumeMs: true,
  segmentBytes: true,
  trailingLogBytes: true,
  pinnedLogBytes: true,
  logger: true,
};

/**
 * Options of a member of a cluster; {@link NodeOptions} describes those that are not described
 * here.
 */
export interface CairnMemberOptions<Result, Machine extends StateMachine<Result>, View>
  extends Pick<NodeOptions<Result, Machine>, PassedOption> {
  /** Name of this member in its cluster: 1 to 64 characters of A-Z a-z 0-9 . _ - */
  readonly id: string;
  /** The data directory; created if it does not exist. One process may use it at a time. */
  readonly directory: string;
  /**
   * The application's state machine: `inMemory(() => new Counter())`, or `ownMachine(open, codec)`.
   */
  readonly machine: OwnMachine<Result, Machine, View>;
  /**
   * The members that found the cluster, host:port by name, including this one; the same on all of
   * them. The cluster is founded when all have been started. Later starts may repeat it. Without
   * `cluster` and `join`, this member founds a cluster alone.
   */
  readonly cluster?: Readonly<Record<string, string>> | undefined;
  /**
   * host:port of members of the cluster that this member joins. It comes as a learner; `cairn
   * member promote` lets it vote.
   */
  readonly join?: readonly string[] | undefined;
  /**
   * host:port to listen on; port 0 takes a free one. Default: this member's address in `cluster`,
   * or 127.0.0.1:7101.
   */
  readonly listen?: string | undefined;
  /**
   * host:port at which the others reach it. Default: its address in `cluster`, or the one that it
   * listens on.
   */
  readonly advertise?: string | undefined;
  /**
   * Behavior of a member that lost data which it acknowledged, or whose directory is new although
   * its cluster knows its name. `rejoin`, the default: it sets its old data aside, returns as a
   * learner, and votes when it has caught up. `refuse`: it does not start, or stops.
   */
  readonly lostDisk?: "rejoin" | "refuse" | undefined;
  /**
   * Milliseconds for which a member whose snapshots are damaged asks the others for one; 0: it does
   * not ask. Default 60,000.
   */
  readonly healTimeoutMs?: number | undefined;
  /**
   * A member is reported to be behind when it lacks more committed entries than this. Default
   * 1,000.
   */
  readonly lagEntries?: number | undefined;
  /** Limits against floods, by name, that differ from the defaults: see docs/limits.md. */
  readonly limits?: Partial<FloodLimits> | undefined;
  /**
   * Paths of its certificate, its key and the authorities, in PEM: its port and its connections to
   * the others use TLS. Changed files are used for new connections. A member of several needs
   * `peerCa`.
   */
  readonly tls?: NodeTlsFiles | undefined;
  /**
   * Allows it to listen on other addresses than loopback addresses without TLS: whoever reaches it
   * can read and change everything. Default false.
   */
  readonly insecure?: boolean | undefined;
  /**
   * Path of an access file, which says who may do what over the network: with it, everybody else is
   * refused. The calls of this application need no role. See docs/access.md.
   */
  readonly access?: string | undefined;
  /**
   * Token by which the members know each other where they have no `tls`: that of a caller with the
   * role peer in the access files of all of them. Required with `access` when there are others.
   */
  readonly peerToken?: string | undefined;
  /** Called with every event, from the start on; see `CairnMember.on` for events of one kind. */
  readonly onEvent?: ((event: ClusterEvent) => void) | undefined;
  /** Ends a start that waits for another member's snapshot. */
  readonly signal?: AbortSignal | undefined;
  /**
   * Called once when the member cannot continue: a broken invariant, a machine that threw, a disk
   * whose contents are no longer known, or a cluster that refuses it. The process should end.
   * Default: throws, which ends it.
   */
  readonly onFatal?: ((error: unknown) => void) | undefined;
}

/** @internal */
interface Hooks<Result, Machine extends StateMachine<Result>> {
  readonly onEvent: (event: MemberEvent) => void;
  readonly onTurn: () => void;
  readonly onFatal: (error: unknown) => void;
  readonly servicesOf: LaunchOptions<Result, Machine>["servicesOf"];
}

const DEFAULT_LISTEN = "127.0.0.1:7101";

/** Turns the options of a member, which must be valid, into those of its parts. @internal */
export function launchOptions<Result, Machine extends StateMachine<Result>, View>(
  options: CairnMemberOptions<Result, Machine, View>,
  { servicesOf, onEvent, onTurn, onFatal }: Hooks<Result, Machine>,
): LaunchOptions<Result, Machine> {
  const { id, directory, machine, join, cluster, lostDisk = "rejoin", healTimeoutMs = HEAL_TIMEOUT_MS } = options;
  const own = cluster?.[id];
  const listen = options.listen ?? own ?? DEFAULT_LISTEN;
  const advertise = options.advertise ?? own ?? (isAddress(listen) ? listen : undefined);
  const founders = cluster && Object.entries(cluster).map(([name, address]) => ({ name, address }));
  const claim: Claim = {
    name: id,
    cameBy: join === undefined ? "cluster" : "join",
    founders,
    alone: [{ id, address: advertise ?? "", role: "voter" }],
  };
  const passed = Object.keys(PASSED).map((name) => [name, options[name as PassedOption]]);
  return {
    node: {
      ...(Object.fromEntries(passed) as Pick<typeof options, PassedOption>),
      id,
      directory,
      openMachine: machine.open,
      onTurn,
      onFatal,
    },
    member: { claim, listen, advertise, join, replacesLostData: lostDisk === "rejoin", onEvent },
    servicesOf,
    healTimeoutMs,
    limits: options.limits,
    tls: options.tls,
    insecure: options.insecure,
    access: options.access,
    peerToken: options.peerToken,
    signal: options.signal ?? new AbortController().signal,
  };
}

/**
 * Checks the options of a member; its node checks the options that are passed on to it.
 * @throws CairnError INVALID_ARGUMENT
 */
export function checkMemberOptions<Result, Machine extends StateMachine<Result>, View>(
  options: CairnMemberOptions<Result, Machine, View>,
): void {
  const { id, cluster, join } = checkObject("options", options);
  checkText("id", id);
  checkText("directory", options.directory);
  checkOwnMachine(options.machine);
  for (const name of ["listen", "advertise", "access", "peerToken"] as const) {
    if (options[name] !== undefined) checkText(name, options[name]);
  }
  for (const name of ["healTimeoutMs", "lagEntries"] as const) {
    if (options[name] !== undefined) checkWholeNumber(name, options[name], 0);
  }
  for (const name of ["onEvent", "onFatal"] as const) {
    if (options[name] !== undefined) checkFunction(name, options[name]);
  }
  if (options.lostDisk !== undefined) checkOneOf("lostDisk", options.lostDisk, ["rejoin", "refuse"]);
  if (options.tls !== undefined) checkTls(options.tls);
  if (cluster !== undefined && join !== undefined) {
    throw new CairnError(
      "INVALID_ARGUMENT",
      "cluster and join are both given: a member founds its cluster, or joins it",
    );
  }
  if (cluster !== undefined) checkCluster(cluster, options);
  if (join !== undefined) checkJoin(join);
}

function checkTls(tls: NodeTlsFiles): void {
  const { certificate, key, ...others } = checkObject("tls", tls);
  checkText("tls.certificate", certificate);
  checkText("tls.key", key);
  for (const [name, path] of Object.entries(others)) if (path !== undefined) checkText(`tls.${name}`, path);
}

function checkCluster(
  cluster: Readonly<Record<string, string>>,
  { id, advertise }: { readonly id: string; readonly advertise?: string | undefined },
): void {
  for (const [name, address] of Object.entries(checkObject("cluster", cluster)))
    checkAddress(`cluster.${name}`, address);
  const own = cluster[id];
  if (own === undefined) {
    const text = `cluster names ${Object.keys(cluster).join(", ")}, but not this member, ${id}. For a member that joins later, set join`;
    throw new CairnError("INVALID_ARGUMENT", text);
  }
  if (advertise === undefined || advertise === own) return;
  throw new CairnError("INVALID_ARGUMENT", `advertise is ${advertise}, but cluster says that ${id} is at ${own}`);
}

function checkJoin(join: readonly string[]): void {
  if (!Array.isArray(join) || join.length === 0) throw invalid("join", "a list of host:port", join);
  for (const address of join) checkAddress("join", address);
}

function checkAddress(what: string, address: string): void {
  checkText(what, address);
  if (!isAddress(address)) throw invalid(what, "host:port", address);
}
