import { type Command, CommandOutcome, type CommandResult } from "../../../gen/cairn/v1/storage_pb.js";
import { assert } from "../../base/assert.js";
import { CairnError } from "../../base/errors.js";
import type { Entry, LogPosition } from "../../raft/types.js";
import type { ApplyResult } from "../state_machine.js";
import { commandResult, decodeCommand } from "./command.js";
import { type EffectNotes, NOTHING } from "./effects/effect_notes.js";
import { evaluate } from "./evaluate.js";
import type { LeaseStore } from "./leases/lease_store.js";
import type { NotedState } from "./noted_state.js";
import type { RecordStore } from "./record_store.js";
import { NEWEST_RULES } from "./session_limits.js";
import type { SessionTable } from "./sessions.js";

/**
 * Decodes the commands of entries; undefined where there is none. Throws CairnError
 * FAILED_PRECONDITION when one of them needs a newer version of Cairn: none may be applied then.
 */
export function commandsOf(entries: readonly Entry[]): (Command | undefined)[] {
  return entries.map(({ type, data, index }) => {
    const command = type === "command" ? decodeCommand(data) : undefined;
    checkRules(command?.rules ?? 0, index);
    return command;
  });
}

/**
 * Applies entries with these commands to a key-value state, in order, and notes their effects. The
 * caller has checked them with {@link assertFollow}, and makes the change all or nothing.
 */
export function applyEntries(
  entries: readonly Entry[],
  commands: readonly (Command | undefined)[],
  records: RecordStore,
  leases: LeaseStore,
  sessions: SessionTable,
  notes: EffectNotes,
): ApplyResult<CommandResult>[] {
  const state = { records, leases, notes };
  const results = entries.map((entry, at) => applyEntry(entry, commands[at], state, sessions));
  sessions.flush();
  return results;
}

/** Applies one entry. {@link SessionTable.flush} writes what this changes in the sessions. */
export function applyEntry(
  { type, index }: Entry,
  command: Command | undefined,
  state: NotedState,
  sessions: SessionTable,
): ApplyResult<CommandResult> {
  state.notes.begin(index);
  const result = type === "command" ? applyCommand(command, index, state, sessions) : undefined;
  return { index, result };
}

/** Asserts that the entries follow each other, and the applied position. */
export function assertFollow(entries: readonly Entry[], applied: LogPosition): void {
  let { index, term } = applied;
  for (const entry of entries) {
    assert(entry.index === index + 1, "entries are applied one after the other", {
      entryIndex: entry.index,
      appliedIndex: index,
    });
    assert(entry.term >= term, "terms never fall along the log", {
      index: entry.index,
      term: entry.term,
      before: term,
    });
    index = entry.index;
    term = entry.term;
  }
}

/**
 * Applies a command. Bytes that are no command have no effect, even on the session that they name.
 */
function applyCommand(
  command: Command | undefined,
  index: number,
  state: NotedState,
  sessions: SessionTable,
): CommandResult {
  if (command === undefined) return commandResult(CommandOutcome.INVALID, index);
  const { requestId, operation, rules } = command;
  sessions.adopt(rules);
  if (requestId === undefined) return evaluate(operation, index, state);
  let isCarriedOut = false;
  const result = sessions.answer(requestId, index, () => {
    isCarriedOut = true;
    return evaluate(operation, index, state);
  });
  if (!isCarriedOut) state.notes.note(NOTHING);
  return result;
}

/**
 * Throws for a command with newer rules than this program knows: applied by older rules, it would
 * let this replica drift apart from the others.
 */
function checkRules(rules: number, index: number): void {
  if (rules <= NEWEST_RULES) return;
  const text =
    `entry ${index} needs version ${rules} of the rules for commands, and this program knows 1 to ${NEWEST_RULES}: ` +
    "start the node with the version of Cairn that the other members run";
  throw new CairnError("FAILED_PRECONDITION", text);
}
