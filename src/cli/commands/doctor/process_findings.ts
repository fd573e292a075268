import { bytesText, type DoctorFinding, ok, problem, warning } from "./findings.js";

/** Limits of a process, and its use of them. A figure that the system does not tell is left out. */
export interface ProcessUse {
  readonly memoryBytes?: number | undefined;
  readonly memoryLimitBytes?: number | undefined;
  readonly openFilesLimit?: number | undefined;
}

/** Files and connections that a node should be allowed to have open. */
const OPEN_FILES_LEAST = 4_096;

/** Memory that a node should have, in bytes. */
const MEMORY_LEAST = 512e6;

/** Part of its memory from which on a node is about to be ended by the system. */
const MEMORY_PART = 0.8;

/** Judges the limits of a process; `name` is put before the texts. */
export function processFindings(name: string, figures: ProcessUse): DoctorFinding[] {
  return [...openFiles(name, figures), ...memory(name, figures)];
}

function openFiles(name: string, { openFilesLimit }: ProcessUse): DoctorFinding[] {
  if (openFilesLimit === undefined) return [];
  const text = `${name} may have ${openFilesLimit} files and connections open`;
  if (openFilesLimit >= OPEN_FILES_LEAST) return [ok("limits", text)];
  const advice = `Raise the limit to ${OPEN_FILES_LEAST} or more: ulimit -n, LimitNOFILE of systemd, --ulimit of a container.`;
  return [warning("limits", text, advice)];
}

function memory(name: string, { memoryBytes, memoryLimitBytes }: ProcessUse): DoctorFinding[] {
  if (memoryLimitBytes === undefined) return [];
  if (memoryBytes === undefined) {
    const text = `${name} may have ${bytesText(memoryLimitBytes)}`;
    if (memoryLimitBytes >= MEMORY_LEAST) return [ok("memory", text)];
    return [warning("memory", text, `Give it ${bytesText(MEMORY_LEAST)} or more: docs/operations.md, 'Memory'.`)];
  }
  const text = `${name} has ${bytesText(memoryBytes)} of ${bytesText(memoryLimitBytes)}`;
  if (memoryBytes < memoryLimitBytes * MEMORY_PART) return [ok("memory", text)];
  const advice =
    "Give it more memory, or store less: the system ends a process that goes beyond. docs/operations.md, 'Memory'.";
  return [problem("memory", text, advice)];
}
