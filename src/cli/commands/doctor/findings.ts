/** Verdict of a finding. A problem needs an operator now; a warning may become one. */
export type Level = "ok" | "warning" | "problem";

/** One thing that was looked at. */
export interface DoctorFinding {
  /** The thing that was looked at: "clock", "disk", "log". */
  readonly subject: string;
  readonly level: Level;
  readonly text: string;
  /** Tells the operator what to do; only without a good verdict. */
  readonly advice?: string;
}

export function ok(subject: string, text: string): DoctorFinding {
  return { subject, level: "ok", text };
}

export function warning(subject: string, text: string, advice: string): DoctorFinding {
  return { subject, level: "warning", text, advice };
}

export function problem(subject: string, text: string, advice: string): DoctorFinding {
  return { subject, level: "problem", text, advice };
}

/** Returns how many findings have this verdict. */
export function countOf(findings: readonly DoctorFinding[], wanted: Level): number {
  return findings.filter(({ level }) => level === wanted).length;
}

const titles: Readonly<Record<Level, string>> = { ok: "ok", warning: "WARNING", problem: "PROBLEM" };

/** Formats findings, a line each and one for the advice, and a summary. */
export function findingsText(findings: readonly DoctorFinding[]): string {
  const width = Math.max(0, ...findings.map(({ subject }) => subject.length));
  const lines = findings.flatMap(({ subject, level, text, advice }) => [
    `${titles[level].padEnd(7)}  ${subject.padEnd(width)}  ${text}`,
    ...(advice === undefined ? [] : [`${" ".repeat(11 + width)}-> ${advice}`]),
  ]);
  const [problems, warnings] = [countOf(findings, "problem"), countOf(findings, "warning")];
  return [...lines, `${plural(problems, "problem")}, ${plural(warnings, "warning")}`].join("\n");
}

/** Formats a number of bytes: 3.2 MB. */
export function bytesText(bytes: number): string {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let at = 0;
  while (value >= 1_000 && at < units.length - 1) {
    value /= 1_000;
    at++;
  }
  return at === 0 ? `${bytes} bytes` : `${value.toFixed(1)} ${units[at]}`;
}

/** Formats a duration in milliseconds. */
export function msText(ms: number): string {
  if (ms >= 10_000) return `${(ms / 1_000).toFixed(1)} s`;
  return ms >= 10 ? `${Math.round(ms)} ms` : `${ms.toFixed(2)} ms`;
}

function plural(count: number, noun: string): string {
  return `${count === 0 ? "no" : count} ${noun}${count === 1 ? "" : "s"}`;
}
