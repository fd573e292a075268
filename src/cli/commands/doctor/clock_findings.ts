import { type DoctorFinding, msText, ok, problem, warning } from "./findings.js";

/** A node's clocks, and those of this process when it was asked. */
export interface ClockSample {
  /** The node's wall clock, and its monotonic clock, in milliseconds. */
  readonly unixMs: number;
  readonly upMs: number;
  /** This process's clocks, halfway between the question and the answer. */
  readonly ownUnixMs: number;
  readonly ownMs: number;
  /** Time between the question and the answer, which bounds the error, in milliseconds. */
  readonly roundTripMs: number;
}

/** Two samples of one node, some time apart. */
export interface ClockSamples {
  readonly name: string;
  readonly first: ClockSample;
  readonly second: ClockSample;
}

/** Difference of the wall clocks that calls for a look, and that is a problem, in milliseconds. */
const APART_MS = 250;
const FAR_APART_MS = 5_000;

/** Wrong pace of a clock that calls for a look: leases and elections count on less. */
const PACE_PART = 0.02;

/** Least step of a wall clock that is reported, in milliseconds. */
const STEP_MS = 100;

const SET_CLOCKS =
  "Let NTP (chrony, systemd-timesyncd) set the clocks of all members. Raft itself reads no wall clock; times in logs, jobs that run once " +
  "and certificates do.";

/** Judges the clocks of nodes against each other. */
export function clockFindings(nodes: readonly ClockSamples[]): DoctorFinding[] {
  return [...wallClocks(nodes), ...nodes.flatMap(pace)];
}

function wallClocks(nodes: readonly ClockSamples[]): DoctorFinding[] {
  if (nodes.length === 0) return [];
  const offsets = nodes
    .map(({ name, second }) => ({
      name,
      ms: second.unixMs - second.ownUnixMs,
      errorMs: second.roundTripMs / 2,
    }))
    .sort((one, other) => one.ms - other.ms);
  const [first, last] = [offsets[0]!, offsets.at(-1)!];
  const errorMs = Math.max(...offsets.map((each) => each.errorMs));
  const apartMs = last.ms - first.ms;
  const findings: DoctorFinding[] = [];
  if (nodes.length > 1) {
    const text = `the wall clocks of ${first.name} and ${last.name} are ${msText(apartMs)} apart (to within ${msText(errorMs * 2)})`;
    const sureMs = apartMs - 2 * errorMs;
    if (sureMs > FAR_APART_MS) findings.push(problem("clock", text, SET_CLOCKS));
    else if (sureMs > APART_MS) findings.push(warning("clock", text, SET_CLOCKS));
    else findings.push(ok("clock", text));
  }
  const middle = offsets[Math.floor(offsets.length / 2)]!;
  if (Math.abs(middle.ms) - 2 * errorMs > APART_MS) {
    const text = `the wall clock here differs from that of ${middle.name} by ${msText(Math.abs(middle.ms))}`;
    findings.push(warning("clock", text, SET_CLOCKS));
  }
  return findings;
}

/** Judges whether a node's clocks advance as they should. */
function pace({ name, first, second }: ClockSamples): DoctorFinding[] {
  const ownMs = second.ownMs - first.ownMs;
  const errorMs = (first.roundTripMs + second.roundTripMs) / 2;
  const upMs = second.upMs - first.upMs;
  // Another process answered the second time.
  if (ownMs <= 0 || upMs < 0) return [];
  const findings: DoctorFinding[] = [];
  const stepMs = second.unixMs - first.unixMs - upMs;
  if (Math.abs(stepMs) > STEP_MS) {
    const text = `the wall clock of ${name} was set while this looked: by ${msText(Math.abs(stepMs))} ${stepMs > 0 ? "forward" : "back"}`;
    findings.push(warning("clock", text, SET_CLOCKS));
  }
  const wrongMs = Math.abs(upMs - ownMs);
  if (wrongMs - errorMs > ownMs * PACE_PART) {
    const text = `the monotonic clock of ${name} advanced by ${msText(upMs)} while that here advanced by ${msText(ownMs)}`;
    const advice =
      "One of the two machines does not keep time: look for a paused or overloaded virtual machine. Elections and --reads lease count on clocks of one pace.";
    findings.push(warning("clock", text, advice));
  }
  return findings;
}
