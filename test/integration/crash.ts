import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type RunningCommand, startCommand } from "../support/processes/processes.js";
import { Random } from "../support/random.js";
import { checkRetention, checkSnapshotFiles, checkStarted, filesIn, type Started } from "./crash_checks.js";
import { CrashFailure, CrashModel, check } from "./crash_model.js";
import { CrashWorkload, type WorkloadCounts } from "./crash_workload.js";

/** Longest time between a node's first word and its death, in ms. */
const LIFE_MS = 400;
/** One start in so many is killed before the node listens. */
const KILLED_STARTS = 8;

export interface CrashOptions {
  readonly kills: number;
  /** Decides everything but the moments at which things happen. */
  readonly seed: number;
  /** Where the node's data directory is made. Default: the directory for temporary files. */
  readonly directory?: string | undefined;
  /** Remove the state on disk before one start in so many: it is only a view of snapshot and log. Default: never. */
  readonly wipeState?: number | undefined;
  readonly progress?: ((line: string) => void) | undefined;
}

/** What happened in a run. */
export interface CrashReport extends WorkloadCounts {
  kills: number;
  /** Of these, before the node listened. */
  killsDuringStart: number;
  /** Starts whose checks came to their end before the next kill. */
  checkedStarts: number;
  snapshotFilesVerified: number;
  statesWiped: number;
  /** Rebuilt because the process was killed soon after a start, several times. */
  statesDistrusted: number;
  segmentsMax: number;
  statesRebuilt: number;
  replayedEntries: number;
  tornBytes: number;
  recoveryMsMax: number;
}

/**
 * Runs `cairn start` under load on one data directory, kills it again and again, and checks after each start that nothing was lost.
 * @throws Error with the seed, what contradicts what, and the data directory, which is then kept
 */
export async function runCrash(options: CrashOptions): Promise<CrashReport> {
  if (options.directory !== undefined) await mkdir(options.directory, { recursive: true });
  const data = await mkdtemp(join(options.directory ?? tmpdir(), "cairn-crash-"));
  const run = new CrashRun(options, data);
  try {
    const report = await run.toItsEnd();
    await rm(data, { recursive: true, force: true });
    return report;
  } catch (error) {
    const how = `seed ${options.seed}, wipe-state ${options.wipeState ?? 0}, after ${run.report.kills} kills`;
    const what = `crash run failed (${how}; its data is kept in ${data}): ${(error as Error).message}`;
    throw new Error(what, { cause: error });
  }
}

class CrashRun {
  readonly #random: Random;
  readonly #model = new CrashModel(CrashWorkload.keyNames());
  readonly #workload: CrashWorkload;
  readonly report: CrashReport;
  /** How long a start took lately, in ms. */
  #startMs = 500;
  /** No start has made a state yet, or the state was wiped and no start has made another one. */
  #mayLackState = true;

  constructor(
    private readonly options: CrashOptions,
    private readonly data: string,
  ) {
    this.#random = new Random(options.seed);
    this.#workload = new CrashWorkload(this.#model, this.#random);
    this.report = Object.assign(this.#workload.counts, {
      kills: 0,
      killsDuringStart: 0,
      checkedStarts: 0,
      snapshotFilesVerified: 0,
      statesWiped: 0,
      statesDistrusted: 0,
      segmentsMax: 0,
      statesRebuilt: 0,
      replayedEntries: 0,
      tornBytes: 0,
      recoveryMsMax: 0,
    });
  }

  async toItsEnd(): Promise<CrashReport> {
    while (this.report.kills < this.options.kills) {
      if (this.#random.oneIn(KILLED_STARTS)) await this.#dieDuringStart();
      else await this.#liveAndDie();
      await this.#lookAtTheDead();
    }
    await this.#stopCleanly();
    return this.report;
  }

  async #dieDuringStart(): Promise<void> {
    const command = await this.#launch();
    await delay(this.#random.whole(0, Math.ceil(this.#startMs)));
    // Its exit shows in #kill, if it has ended by itself.
    if (command.stdout === "") this.report.killsDuringStart++;
    await this.#kill(command);
  }

  async #liveAndDie(): Promise<void> {
    const command = await this.#launch();
    const address = await this.#listening(command);
    const life = new Life(this.#random.whole(0, LIFE_MS), () => this.#kill(command));
    try {
      // Some die while they are checked, others only under load.
      if (this.#random.oneIn(2)) life.begin();
      await this.#checkUnlessKilled(address, life);
      life.begin();
      await this.#workload.run(address, () => life.isOver);
      await life.end();
    } catch (error) {
      life.spare();
      await command.kill();
      if (command.stderr === "") throw error;
      throw new Error(`${(error as Error).message}\nThe node said: ${command.stderr}`, { cause: error });
    }
  }

  async #checkUnlessKilled(address: string, life: Life): Promise<void> {
    try {
      this.#note(await checkStarted(address, this.data, this.#model, this.#workload.watermarks));
    } catch (error) {
      // What the checks themselves find wrong is wrong all the same.
      if (!life.isOver || error instanceof CrashFailure) throw error;
    }
  }

  /** Starts it once more, lets it answer all that is still open, and stops it as an operator would. */
  async #stopCleanly(): Promise<void> {
    const command = await this.#launch();
    const address = await this.#listening(command);
    const { watermarks } = this.#workload;
    this.#note(await checkStarted(address, this.data, this.#model, watermarks));
    await this.#workload.retryUnknown(address);
    check(this.#model.unknown().length === 0, "a retry gives an answer", { unknown: this.#model.unknown() });
    await checkStarted(address, this.data, this.#model, watermarks);
    await checkRetention(address, this.data);
    const exit = await command.kill("SIGTERM");
    check(exit.code === 0, "SIGTERM ends the node with 0", { ...exit, stderr: command.stderr });
    this.#checkRebuilds(command);
    await this.#lookAtTheDead();
  }

  async #launch(): Promise<RunningCommand> {
    const { wipeState } = this.options;
    if (wipeState !== undefined && this.report.kills > 0 && this.#random.oneIn(wipeState)) {
      await rm(join(this.data, "state"), { recursive: true, force: true });
      this.report.statesWiped++;
      this.#mayLackState = true;
    }
    const settings = ["--listen", "127.0.0.1:0", "--json", "--log-level", "warn"];
    return startCommand(["start", "--id", "n1", "--data", this.data, ...settings]);
  }

  async #listening(command: RunningCommand): Promise<string> {
    const begun = performance.now();
    const { address } = (await command.event("listening")) as { address: string };
    this.#startMs = 0.7 * this.#startMs + 0.3 * (performance.now() - begun);
    return address;
  }

  async #kill(command: RunningCommand): Promise<void> {
    const exit = await command.kill("SIGKILL");
    check(exit.signal === "SIGKILL", "the node ends by SIGKILL only", { ...exit, stderr: command.stderr });
    this.#checkRebuilds(command);
    this.report.kills++;
    const { kills, acknowledged } = this.report;
    if (kills % 20 === 0) this.options.progress?.(`${kills} kills, ${acknowledged} writes acknowledged`);
  }

  /**
   * A kill takes nothing away from the state that is written already. A node rebuilds it only where the state was wiped, or (T7) after it was
   * killed soon after a start for limits.stateOpenings times: it cannot tell that from deaths of damage.
   */
  #checkRebuilds(command: RunningCommand): void {
    for (const line of command.stderr.split("\n")) {
      const reason = /"reason":"([^"]*)"/.exec(line)?.[1];
      if (reason === undefined || !line.includes("the state on disk is not used")) continue;
      const isMissing = reason.includes("there is no state yet") && this.#mayLackState;
      const isDistrusted = /the process ended [0-9]+ times soon after it had opened/.test(reason);
      check(isMissing || isDistrusted, "a state is rebuilt for a known reason only", { reason });
      this.report.statesDistrusted += isDistrusted ? 1 : 0;
    }
    if (command.stdout.includes('"listening"')) this.#mayLackState = false;
  }

  async #lookAtTheDead(): Promise<void> {
    const segments = (await filesIn(join(this.data, "wal"))).length;
    this.report.segmentsMax = Math.max(this.report.segmentsMax, segments);
    this.report.snapshotFilesVerified += await checkSnapshotFiles(this.data, this.#model);
  }

  #note({ status: { recovery } }: Started): void {
    check(recovery !== undefined, "a node tells how it recovered", {});
    this.report.checkedStarts++;
    if (recovery.stateRebuilt) this.report.statesRebuilt++;
    this.report.replayedEntries += Number(recovery.replayedEntries);
    this.report.tornBytes += Number(recovery.tornBytes);
    this.report.recoveryMsMax = Math.max(this.report.recoveryMsMax, Number(recovery.durationMs));
  }
}

/** A time that a node is given, and its end. */
class Life {
  readonly #spared = new AbortController();
  #ending: Promise<void> | undefined;
  /** Whether the node has been killed, or is about to be. */
  isOver = false;

  constructor(
    private readonly ms: number,
    private readonly kill: () => Promise<void>,
  ) {}

  /** From now on the time runs; a second call does nothing. */
  begin(): void {
    this.#ending ??= this.#run();
    this.#ending.catch(() => {});
  }

  /** Waits until the node was killed. */
  async end(): Promise<void> {
    await this.#ending;
  }

  /** Calls it off. */
  spare(): void {
    this.#spared.abort();
  }

  async #run(): Promise<void> {
    await delay(this.ms, undefined, { signal: this.#spared.signal });
    this.isOver = true;
    await this.kill();
  }
}

/** A report as lines of text. */
export function crashTable(report: CrashReport): string {
  const rows: [string, number][] = [
    ["kills", report.kills],
    ["  during a start", report.killsDuringStart],
    ["starts checked", report.checkedStarts],
    ["writes acknowledged", report.acknowledged],
    ["writes of unknown outcome", report.unknown],
    ["retries", report.retries],
    ["  of writes seen to be applied", report.retriesOfApplied],
    ["reads under load", report.reads],
    ["snapshots taken", report.snapshots],
    ["snapshot files verified", report.snapshotFilesVerified],
    ["log entries trimmed", report.entriesTrimmed],
    ["log segments, max", report.segmentsMax],
    ["states wiped", report.statesWiped],
    ["states not trusted after early deaths", report.statesDistrusted],
    ["recoveries with state rebuilt", report.statesRebuilt],
    ["entries replayed", report.replayedEntries],
    ["torn bytes", report.tornBytes],
    ["slowest recovery, ms", report.recoveryMsMax],
  ];
  return rows.map(([name, count]) => `${name.padEnd(32)} ${String(count).padStart(10)}`).join("\n");
}
