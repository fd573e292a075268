import { isUint8Array } from "node:util/types";
import { checkFunction, checkObject } from "../../base/arguments.js";
import { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import { InMemoryMachine, type SimpleMachine } from "../../machine/in_memory_machine.js";
import type { StateMachine } from "../../machine/state_machine.js";
import type { MachineOpener } from "../../node/options.js";

// Describes applications' own state machines to a member.

/** Carries the result of a command from the leader to the member whose caller proposed it. */
export interface ResultCodec<Result> {
  /** Encodes a result, in at most `limits.machineResultBytes`. */
  encodeResult(result: Result): Uint8Array;
  decodeResult(bytes: Uint8Array): Result;
}

/**
 * An application's own state machine, as a member of a cluster runs it. {@link ownMachine} and
 * {@link inMemory} make it.
 */
export interface OwnMachine<Result, Machine extends StateMachine<Result>, View> extends ResultCodec<Result> {
  readonly open: MachineOpener<Machine>;
  /** Returns the object that queries read. */
  view(machine: Machine): View;
}

/** Passes results through that are bytes already. */
const asTheyAre: ResultCodec<Uint8Array> = { encodeResult: (result) => result, decodeResult: (bytes) => bytes };

/**
 * Describes a state machine of your own to a member. Without a codec its results must be bytes.
 * @throws CairnError INVALID_ARGUMENT
 */
export function ownMachine<Machine extends StateMachine<Uint8Array>>(
  open: MachineOpener<Machine>,
): OwnMachine<Uint8Array, Machine, Machine>;
export function ownMachine<Result, Machine extends StateMachine<Result>>(
  open: MachineOpener<Machine>,
  results: ResultCodec<Result>,
): OwnMachine<Result, Machine, Machine>;
export function ownMachine<Machine extends StateMachine<Uint8Array>>(
  open: MachineOpener<Machine>,
  results: ResultCodec<Uint8Array> = asTheyAre,
): OwnMachine<Uint8Array, Machine, Machine> {
  checkFunction("open", open);
  return {
    open,
    encodeResult: (result) => results.encodeResult(result),
    decodeResult: (bytes) => results.decodeResult(bytes),
    view: (machine) => machine,
  };
}

/**
 * Describes a state machine that fits in memory to a member. `make` returns a new, empty machine.
 * It is called at the start, for each snapshot that is loaded, and when an earlier state is built,
 * so machines must share nothing.
 * @throws CairnError INVALID_ARGUMENT
 */
export function inMemory<Simple extends SimpleMachine>(
  make: () => Simple,
): OwnMachine<Uint8Array, InMemoryMachine<Simple>, Simple> {
  checkFunction("make", make);
  const open = Object.assign(async () => new InMemoryMachine(make), { checkPayload: InMemoryMachine.checkPayload });
  return { ...asTheyAre, open, view: (machine) => machine.state };
}

/**
 * Checks the parts of an application's machine.
 * @throws CairnError INVALID_ARGUMENT
 */
export function checkOwnMachine<Result, Machine extends StateMachine<Result>, View>(
  machine: OwnMachine<Result, Machine, View>,
): void {
  checkObject("machine", machine);
  for (const name of ["open", "view", "encodeResult", "decodeResult"] as const) {
    checkFunction(`machine.${name}`, machine[name]);
  }
}

/**
 * Encodes a result.
 * @throws CairnError INTERNAL: the command has taken effect, and its result cannot be returned
 */
export function encodedResult<Result>(codec: ResultCodec<Result>, index: number, result: Result): Uint8Array {
  const bytes = told(index, "encoded", () => codec.encodeResult(result));
  if (!isUint8Array(bytes)) throw untold(index, "encoded", "encodeResult returned no Uint8Array");
  if (bytes.byteLength <= limits.machineResultBytes) return bytes;
  const text = `it has ${bytes.byteLength} bytes; the limit machineResultBytes is ${limits.machineResultBytes}`;
  throw untold(index, "sent", text);
}

/**
 * Decodes a result.
 * @throws CairnError INTERNAL: the command has taken effect, and its result cannot be returned
 */
export function decodedResult<Result>(codec: ResultCodec<Result>, index: number, bytes: Uint8Array): Result {
  return told(index, "decoded", () => codec.decodeResult(bytes));
}

function told<Value>(index: number, done: string, work: () => Value): Value {
  try {
    return work();
  } catch (error) {
    throw untold(index, done, String(error), error);
  }
}

function untold(index: number, done: string, reason: string, cause?: unknown): CairnError {
  const text = `the command at index ${index} has taken effect, but its result cannot be ${done}: ${reason}`;
  return new CairnError("INTERNAL", text, { cause });
}
