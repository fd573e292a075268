import { hasCode } from "../../../base/errors.js";
import { membershipCodec } from "../../../encoding/membership.js";
import type { Entry, HardState } from "../../../raft/types.js";
import { StoppedDirectory } from "../../../storage/stopped_directory.js";
import {
  type InspectedPart,
  type InspectedSegment,
  inspectLog,
  type LogDamage,
  type LogFindings,
} from "../../../storage/wal/inspection.js";
import { nodeFileSystem } from "../../../system/fs.js";
import { print } from "../../output/output.js";
import type { ProgressDisplay } from "../../output/progress.js";
import { commandWords } from "./command_words.js";
import { ownerText, type Verdict, verdictOn } from "./verdict.js";
import type { DumpOptions } from "./wal.js";

/** Bytes of output that are collected for one write. */
const OUTPUT_BYTES = 64 * 1024;

/**
 * Prints the log of a stopped node. Returns whether the log is sound.
 * @throws CairnError NOT_FOUND; DATA_DIRECTORY when the directory is in use; CANCELLED
 */
export async function dumpLog(
  path: string,
  options: DumpOptions,
  { progress, signal }: { readonly progress: ProgressDisplay; readonly signal: AbortSignal },
): Promise<boolean> {
  const say = (text: string) => void process.stderr.write(`cairn: ${text}\n`);
  const directory = await StoppedDirectory.open(nodeFileSystem, path, { say });
  const output = new Output();
  const render = options.json ? jsonOf : textOf;
  const ending = AbortSignal.any([signal, output.closed]);
  if (!options.json) await output.write(`${ownerText(directory)}\n`);
  const visit = (part: InspectedPart) => {
    const line = isWanted(part, options) ? render(part, options) : "";
    return line === "" ? undefined : output.write(`${line}\n`);
  };
  try {
    const findings = await inspectLog(nodeFileSystem, directory.log, {
      visit,
      onProgress: (done, total) => progress.update(done, total),
      signal: ending,
    });
    await directory.expectUntouched();
    const verdict = await verdictOn(directory, findings);
    await output.write(`${options.json ? summaryJson(findings, verdict) : summaryText(findings, verdict)}\n`);
    await output.end();
    return verdict.sound;
  } catch (error) {
    // The reader wants no more, which is no failure: nobody knows whether the rest is sound.
    if (output.closed.aborted && hasCode(error, "CANCELLED")) return true;
    throw error;
  } finally {
    progress.end();
  }
}

function isWanted(part: InspectedPart, { from = 0, to = Number.POSITIVE_INFINITY }: DumpOptions): boolean {
  return part.kind !== "entry" || (part.entry.index >= from && part.entry.index <= to);
}

/** Collects lines, and writes many at a time. */
class Output {
  readonly #closing = new AbortController();
  #text: string[] = [];
  #bytes = 0;

  /** Aborted when the reader is gone. */
  get closed(): AbortSignal {
    return this.#closing.signal;
  }

  /** Returns a promise when the caller must wait. */
  write(text: string): undefined | Promise<void> {
    this.#text.push(text);
    this.#bytes += text.length;
    return this.#bytes < OUTPUT_BYTES ? undefined : this.end();
  }

  async end(): Promise<void> {
    const text = this.#text.join("");
    this.#text = [];
    this.#bytes = 0;
    if (!(await print(text))) this.#closing.abort();
  }
}

function jsonOf(part: InspectedPart, { keys }: DumpOptions): string {
  switch (part.kind) {
    case "segment":
      return JSON.stringify({ type: "segment", ...segmentFacts(part.segment) });
    case "entry": {
      const { entry, offset, replaces } = part;
      const { index, term, type: kind, data } = entry;
      const facts = { type: "entry", index, term, kind, bytes: data.byteLength, offset };
      return JSON.stringify({
        ...facts,
        ...(replaces && { replaces }),
        ...(kind === "configuration" && { members: membersIn(entry) }),
        ...(keys && kind === "command" && { command: commandWords(data) ?? null }),
      });
    }
    case "hard_state":
      return JSON.stringify({ type: "hard_state", ...part.hardState, offset: part.offset });
    case "trim":
      return JSON.stringify({ type: "trim", ...part.position, offset: part.offset });
    case "damage":
      return JSON.stringify({ type: "damage", ...damageFacts(part.damage) });
    case "torn":
      return JSON.stringify({ type: "torn", ...part.torn });
  }
}

function textOf(part: InspectedPart, { keys }: DumpOptions): string {
  switch (part.kind) {
    case "segment":
      return segmentText(part.segment);
    case "entry":
      return entryText(part.entry, part.replaces, keys === true);
    case "hard_state":
      return `  hard state: ${hardStateText(part.hardState)}`;
    case "trim":
      return `  trim: the log starts behind index ${part.position.index} of term ${part.position.term}`;
    case "damage":
      return damageLine(part.damage);
    case "torn":
      return `--- TORN TAIL: ${part.torn.bytes} bytes at offset ${part.torn.offset} of ${part.torn.path}`;
  }
}

function entryText(entry: Entry, replaces: boolean, keys: boolean): string {
  const { index, term, type, data } = entry;
  const columns = [String(index).padStart(12), `term ${term}`.padEnd(10), type.padEnd(13), `${data.byteLength} bytes`];
  const words = [
    ...(type === "configuration" ? [membersIn(entry).join(", ")] : []),
    ...(keys && type === "command" ? [commandWords(data) ?? "not a command of the key-value store"] : []),
    ...(replaces ? ["(replaces the entries from here on)"] : []),
  ];
  return [...columns, ...words].join("  ");
}

function membersIn({ data }: Entry): string[] {
  try {
    return membershipCodec
      .decode(data)
      .map(({ id, address, role }) => `${id}=${address}${role === "learner" ? " (learner)" : ""}`);
  } catch {
    return ["members that this version cannot read"];
  }
}

function segmentFacts({ name, fileBytes, header, isConnected }: InspectedSegment): object {
  return {
    file: name,
    bytes: fileBytes,
    ...(header !== undefined && {
      sequence: header.sequence,
      firstIndex: header.firstIndex,
      boundary: header.boundary,
      hardState: header.hardState,
      ...(header.startsLog && { startsLog: true }),
    }),
    ...(!isConnected && { leftOver: true }),
  };
}

function segmentText({ name, fileBytes, header, isConnected }: InspectedSegment): string {
  if (!isConnected) return `segment ${name}: ${fileBytes} bytes, no longer part of the log: the next start removes it`;
  if (header === undefined) return `segment ${name}: ${fileBytes} bytes, its header is damaged`;
  const { sequence, firstIndex, boundary, startsLog, hardState } = header;
  const start = startsLog ? ", the log starts here" : "";
  return [
    `segment ${name}: sequence ${sequence}, entries from ${firstIndex} on, ${fileBytes} bytes${start}`,
    `  log behind index ${boundary.index} of term ${boundary.term}; hard state: ${hardStateText(hardState)}`,
  ].join("\n");
}

function hardStateText({ term, vote, commit }: HardState): string {
  return `term ${term}, ${vote ? `vote for ${vote}` : "no vote"}, commit ${commit}`;
}

export function damageFacts({ path, offset, text, entries }: LogDamage): object {
  return { path, offset, text, ...(entries !== undefined && { entries }) };
}

export function damageLine({ text, entries }: LogDamage): string {
  return `--- DAMAGED: ${text}${entries === undefined ? "" : `; ${lostText(entries)}`}`;
}

function lostText({ from, to }: NonNullable<LogDamage["entries"]>): string {
  if (to === undefined) return `what is lost begins at entry ${from}`;
  return from === to ? `entry ${from} is lost` : `entries ${from} to ${to} are lost`;
}

function summaryJson(findings: LogFindings, verdict: Verdict): string {
  return JSON.stringify({ type: "log", ...logFacts(findings), ...verdict });
}

function summaryText(findings: LogFindings, { start }: Verdict): string {
  return `${logText(findings)}\n${start}`;
}

/** Returns what is printed about a whole log as JSON. */
export function logFacts({ boundary, last, hardState, segments, fileBytes, records, torn, damageCount }: LogFindings) {
  return {
    first: boundary.index + 1,
    last: last.index,
    lastTerm: last.term,
    boundary,
    hardState,
    segments,
    bytes: fileBytes,
    records,
    ...(torn !== undefined && { torn }),
    damaged: damageCount,
  };
}

/** Describes a whole log. */
export function logText({ boundary, last, hardState, segments, fileBytes, records }: LogFindings): string {
  const range =
    last.index === boundary.index
      ? `no entries, behind index ${boundary.index} of term ${boundary.term}`
      : `entries ${boundary.index + 1} to ${last.index} (term ${last.term}), behind index ${boundary.index} of term ${boundary.term}`;
  const files = `${records} records in ${segments === 1 ? "1 segment" : `${segments} segments`} of ${fileBytes} bytes`;
  return `log: ${range}; ${files}\nhard state: ${hardStateText(hardState)}`;
}
