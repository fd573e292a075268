import { limits } from "../../../src/base/limits.js";
import {
  DEFAULT_SESSION_LIMITS,
  largestSessionBytes,
  type SessionLimits,
} from "../../../src/machine/kv/session_limits.js";
import type { StoreRules } from "../../../src/store/rules/rules.js";
import { DEFAULT_RULES } from "../../../src/store/rules/v1.js";
import type { ClientWeather } from "../world/clients.js";
import type { DiskWeather } from "../world/disk.js";
import type { LeaseWeather } from "../world/lease_clients.js";
import type { NetworkWeather } from "../world/network/network.js";
import type { ClusterOptions } from "../world/node.js";
import type { SimRandom } from "../world/random.js";

/** How often things go wrong: the mean time between two of a kind in milliseconds; undefined: never. */
export interface Troubles {
  readonly crash: number | undefined;
  readonly powerFailure: number | undefined;
  readonly allAtOnce: number | undefined;
  readonly stop: number | undefined;
  readonly pause: number | undefined;
  readonly partition: number | undefined;
  readonly slowLink: number | undefined;
  readonly slowDisk: number | undefined;
  readonly stuckDisk: number | undefined;
  readonly fullDisk: number | undefined;
  readonly failedSync: number | undefined;
  readonly clock: number | undefined;
  readonly bitFlip: number | undefined;
  readonly wipe: number | undefined;
  readonly breakInstall: number | undefined;
  readonly transferTrouble: number | undefined;
  readonly snapshot: number | undefined;
  readonly membership: number | undefined;
  readonly transfer: number | undefined;
  readonly campaign: number | undefined;
  /** A member sends what no correct member sends. */
  readonly hostile: number | undefined;
  readonly loseTail: number | undefined;
  readonly rollBack: number | undefined;
  readonly wipeMany: number | undefined;
  readonly stranger: number | undefined;
}

/** Whether nodes are given their identity, or draw it. */
export type Identities = "given" | "drawn";

/** Where nodes keep their state: in memory, or in Cairn's store. */
export type States = "memory" | "store";

/** Nodes whose state is in Cairn's store. */
export interface StoreWeather {
  /** Share of the nodes. */
  readonly share: number;
  readonly rules: StoreRules;
  readonly cacheBytes: number;
}

/** How nodes that draw their own identity find to each other. Times in milliseconds. */
export interface TrustWeather {
  /** Within so long the founders are started; and one of them so much later. */
  readonly firstStartsMs: number;
  readonly absentMs: number | undefined;
  /** Chance that a disk is wiped at each step of founding, joining, being promoted. */
  readonly wipeAtStep: number;
}

/** All that a seed decides about a run before it begins. */
export interface Weather {
  /** Undefined: nobody uses leases, and no node looks after them. */
  readonly leases: LeaseWeather | undefined;
  readonly nodes: number;
  /** Undefined: all nodes keep their state in memory. */
  readonly store: StoreWeather | undefined;
  /** How long the troubles last, in milliseconds. */
  readonly durationMs: number;
  /** How long a process stays down, in milliseconds. */
  readonly downMs: number;
  /** Share of the crashes, and of the starts, in which the process dies in the midst of a call of its disk. */
  readonly inCall: number;
  readonly inStart: number;
  /** Whether the state outlives a process that dies, as it does in a memory-mapped file. */
  readonly keepsState: boolean;
  /** How long a node may need to load a snapshot that it has read, in milliseconds. */
  readonly loadMost: number;
  readonly clock: { readonly drift: number; readonly jumpMs: number };
  readonly network: NetworkWeather;
  readonly disk: DiskWeather;
  readonly clients: ClientWeather;
  /** How much the cluster remembers of its clients. */
  readonly sessions: SessionLimits;
  readonly node: ClusterOptions;
  readonly troubles: Troubles;
  /** Undefined: nodes are given their identity, and run without a daemon. */
  readonly trust: TrustWeather | undefined;
}

/** Parts of the weather that are decided without the seed. */
export interface Wishes {
  readonly nodes?: number | undefined;
  readonly identities?: Identities | undefined;
  readonly state?: States | undefined;
}

/** Draws a run: some are calm, some have a few kinds of trouble, some have all. */
export function drawWeather(random: SimRandom, { nodes, identities, state }: Wishes): Weather {
  const kind = random.fraction();
  /** How likely a kind of trouble is to be there at all, and how often it comes. */
  const share = kind < 0.08 ? 0 : kind < 0.85 ? 0.45 : 0.9;
  const hasLeases = random.chance(0.2);
  const some = (least: number, most: number) => (random.chance(share) ? random.between(least, most) : 0);
  const times = (least: number, most: number) => (random.chance(share) ? random.between(least, most) : undefined);
  const disk = drawDisk(random, share);
  const own = random.fork("trust");
  const isDrawn = own.chance(0.7) ? identities !== "given" : identities === "drawn";
  const drawnOr = <Value>(given: Value, drawn: () => Value) => (isDrawn ? drawn() : given);
  const timesOfDrawn = (chance: number, least: number, most: number) => {
    const mean = own.between(least, most);
    return own.chance(chance) && isDrawn ? mean : undefined;
  };
  return {
    leases: drawLeases(random.fork("leases")),
    nodes: nodes ?? random.pick([1, 3, 3, 3, 3, 3, 5, 5, 5, 7]),
    store: drawStore(random.fork("store"), state),
    durationMs: random.between(10_000, 26_000),
    downMs: random.pick([100, 500, 1_500, 4_000]),
    inCall: random.pick([0, 0.3, 0.8]),
    inStart: random.pick([0, 0.15, 0.4]),
    keepsState: random.chance(0.5),
    loadMost: random.fork("load").pick([0, 300, 3_000]),
    // Leases stand on clocks that keep nearly the same pace, and stand on nothing that jumps.
    clock: {
      drift: random.between(0, hasLeases ? 0.04 : 0.3),
      jumpMs: hasLeases ? 0 : random.pick([200, 2_000, 60_000]),
    },
    network: {
      delayLeast: 0.2,
      delayMost: random.pick([1, 5, 20]),
      slow: some(0.01, 0.3),
      slowMost: random.pick([20, 200, 1_500]),
      loss: some(0.005, 0.15),
      duplicate: some(0.005, 0.1),
      told: random.pick([0, 0.3, 1]),
      streamBreak: some(0.002, 0.05),
      corruption: corruption(random.fork("corruption"), share),
      ghost: own.pick([0, 0.02, 0.2]),
    },
    disk,
    clients: {
      clients: random.whole(2, 6),
      keys: random.pick([2, 5, 20]),
      thinkMs: random.pick([20, 60, 150]),
      timeoutMs: random.pick([300, 800, 2_500, 6_000]),
      valueBytes: random.pick([20, 200, 1_500]),
      loss: some(0.01, 0.1),
      transactions: random.fork("transactions").pick([0, 0, 0.5]),
    },
    sessions: drawSessions(random.fork("sessions")),
    node: drawOptions(random, hasLeases),
    troubles: {
      crash: times(2_000, 12_000),
      powerFailure: times(3_000, 15_000),
      allAtOnce: times(10_000, 30_000),
      stop: times(5_000, 20_000),
      pause: times(3_000, 15_000),
      partition: times(2_000, 12_000),
      slowLink: times(3_000, 15_000),
      slowDisk: times(4_000, 20_000),
      stuckDisk: stuckDisk(random.fork("stuck disk"), share),
      fullDisk: times(6_000, 25_000),
      failedSync: times(10_000, 30_000),
      clock: times(2_000, 10_000),
      bitFlip: times(3_000, 15_000),
      wipe: drawnOr(times(12_000, 40_000), () => timesOfDrawn(share, 2_000, 12_000)),
      breakInstall: times(300, 3_000),
      snapshot: times(400, 4_000),
      membership: times(1_000, 8_000),
      transfer: times(2_000, 12_000),
      campaign: times(3_000, 15_000),
      transferTrouble: times(30, 300),
      // Its messages name members as they are named where identities are given.
      hostile: isDrawn ? undefined : hostility(random.fork("hostile"), share),
      loseTail: timesOfDrawn(share, 600, 3_000),
      rollBack: timesOfDrawn(share * 0.7, 600, 3_000),
      wipeMany: timesOfDrawn(share * 0.4, 4_000, 12_000),
      stranger: timesOfDrawn(share * 0.4, 300, 3_000),
    },
    trust: isDrawn ? drawTrust(own, share) : undefined,
  };
}

function drawLeases(random: SimRandom): LeaseWeather | undefined {
  if (!random.chance(0.2)) return undefined;
  return {
    clients: random.whole(1, 3),
    thinkMs: random.pick([50, 150]),
    timeoutMs: random.pick([300, 2_500]),
    loss: random.pick([0, 0.05]),
  };
}

/** Rules so small that a run has many steps and sweeps. */
function drawStore(random: SimRandom, wanted: States | undefined): StoreWeather | undefined {
  const isDrawn = random.chance(0.25);
  const share = wanted === "store" ? 1 : random.pick([0.5, 1]);
  const pageBytes = random.pick([100, 400]);
  const blockBytesMin = pageBytes * random.whole(1, 4);
  const tableBytesMin = blockBytesMin * random.whole(1, 4);
  const rules: StoreRules = {
    ...DEFAULT_RULES,
    flushBytes: random.pick([400, 1_500, 6_000]),
    fanOut: random.whole(2, 6),
    baseRuns: random.whole(1, 4),
    sweepFlushes: random.whole(1, 8),
    pageBytes,
    blockBytesMin,
    blockBytesMax: blockBytesMin * 3,
    blockBits: random.whole(0, 3),
    tableBytesMin,
    tableBytesMax: tableBytesMin * 2,
    tableBits: random.whole(0, 2),
    seeds: [random.whole(0, 2 ** 32 - 1), random.whole(0, 2 ** 32 - 1)],
  };
  const cacheBytes = random.pick([1_000, 100_000]);
  return wanted === "store" || (wanted === undefined && isDrawn) ? { share, rules, cacheBytes } : undefined;
}

function drawTrust(random: SimRandom, share: number): TrustWeather {
  return {
    firstStartsMs: random.pick([0, 500, 3_000]),
    absentMs: random.chance(0.15) ? random.between(3_000, 15_000) : undefined,
    wipeAtStep: random.chance(share) ? random.pick([0.05, 0.3]) : 0,
  };
}

function corruption(random: SimRandom, share: number): number {
  return random.chance(share) ? random.between(0.001, 0.02) : 0;
}

function hostility(random: SimRandom, share: number): number | undefined {
  return random.chance(share / 2) ? random.between(100, 1_000) : undefined;
}

function stuckDisk(random: SimRandom, share: number): number | undefined {
  return random.chance(share) ? random.between(4_000, 20_000) : undefined;
}

function drawDisk(random: SimRandom, share: number): DiskWeather {
  return {
    least: 0.05,
    most: random.pick([0.3, 2, 8]),
    slow: random.chance(share) ? random.between(0.01, 0.1) : 0,
    slowMost: random.pick([10, 100, 600]),
    direct: random.fork("direct disk").pick([0, 0, 0.5, 1]),
  };
}

/** Often less than there are clients. */
function drawSessions(random: SimRandom): SessionLimits {
  if (random.chance(0.5)) return DEFAULT_SESSION_LIMITS;
  const answers = random.whole(1, 3);
  const valueBytes = random.pick([0, 20, 1_000]);
  const few = { sessions: random.whole(1, 6), answers, valueBytes, bytes: 0 };
  return { ...few, bytes: largestSessionBytes(few) + random.pick([0, 200, 2_000]) };
}

function drawOptions(random: SimRandom, hasLeases: boolean): ClusterOptions {
  const isNarrow = random.chance(0.35);
  const sizes = random.fork("sizes");
  // Seldom little: followers are to be brought back by the log as well.
  const snapshotInsteadBytes = sizes.chance(0.25) ? sizes.pick([0, 500]) : limits.snapshotInsteadBytes;
  return {
    reads: hasLeases ? "lease" : "quorum",
    heartbeatTicks: random.pick([1, 1, 2, 3]),
    segmentBytes: random.pick([4, 8, 16]) * 1024,
    trailingLogBytes: random.pick([0, 500, 4096]),
    pinnedLogBytes: sizes.pick([500, 4096, limits.pinnedLogBytes]),
    snapshotChunkBytes: random.pick([64, 256, 2048]),
    snapshots: { entries: random.whole(5, 50) },
    limits: isNarrow
      ? {
          appendEntries: random.whole(1, 4),
          peerAppendsInFlight: random.whole(1, 2),
          windowBytes: random.pick([0, 200, 2_000]),
          applyEntries: random.whole(1, 8),
          snapshotInsteadBytes,
        }
      : { windowBytes: random.pick([500, 8 * 1024 * 1024]), snapshotInsteadBytes },
  };
}
