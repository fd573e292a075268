import { readFile, writeFile } from "node:fs/promises";

/**
 * What one client asked of one key, and what came of it. Times are whole numbers on one clock for all clients, in microseconds; only
 * their order matters. Operations that meet at a time (one returns at 5, another is called at 5) count as concurrent.
 *
 * An operation that has no answer when the history ends, because its client was killed, say, belongs in it too, as "info": it may have
 * taken effect, and without it what others saw of it would look like a fault.
 */
export interface Operation {
  readonly client: string;
  /** "cas" sets the key to `value` if it holds `from`. */
  readonly op: "get" | "put" | "delete" | "cas";
  readonly key: string;
  /** What put and cas write. */
  readonly value?: string | null;
  /** What cas expects; null: that the key is missing. */
  readonly from?: string | null;
  /** The value that a get has read, or that a cas which did not swap has met: null if the key was missing, left out if not known. */
  readonly out?: string | null;
  /** Of "ok": whether get and delete found the key, whether cas swapped. */
  readonly found?: boolean;
  /**
   * "ok": took effect between `call` and `ret`. "fail": has taken no effect and never will. "info": outcome unknown; may take effect at
   * any time after `call`, or never.
   */
  readonly status: "ok" | "fail" | "info";
  readonly call: number;
  /** Null if and only if the outcome is unknown. */
  readonly ret: number | null;
}

/** A history whose operations do not say what they must. It is the recorder that is wrong, not what it recorded. */
export class HistoryError extends Error {
  override readonly name = "HistoryError";
}

/** Throws {@link HistoryError} if a field is missing or of a wrong type. `where` begins the message. */
export function assertOperation(value: unknown, where: string): asserts value is Operation {
  const fault = faultOf(value);
  if (fault !== undefined) throw new HistoryError(`${where}: ${fault}: ${JSON.stringify(value)}`);
}

/** JSON lines, one for each operation. */
export function formatHistory(operations: readonly Operation[]): string {
  return operations.map((operation) => `${JSON.stringify(operation)}\n`).join("");
}

/** The reverse of {@link formatHistory}. Blank lines are left out. Throws {@link HistoryError} naming the line that cannot be read. */
export function parseHistory(text: string): Operation[] {
  return text.split("\n").flatMap((line, at) => (line.trim() === "" ? [] : [parseOperation(line, `line ${at + 1}`)]));
}

export async function writeHistory(path: string, operations: readonly Operation[]): Promise<void> {
  await writeFile(path, formatHistory(operations));
}

export async function readHistory(path: string): Promise<Operation[]> {
  return parseHistory(await readFile(path, "utf8"));
}

function parseOperation(line: string, where: string): Operation {
  let operation: unknown;
  try {
    operation = JSON.parse(line);
  } catch {
    throw new HistoryError(`${where}: not JSON: ${line}`);
  }
  assertOperation(operation, where);
  return operation;
}

function faultOf(value: unknown): string | undefined {
  if (typeof value !== "object" || value === null) return "not an object";
  const operation = value as Readonly<Record<keyof Operation, unknown>>;
  return (
    commonFault(operation) ??
    argumentFault(operation) ??
    timeFault(operation) ??
    (operation.status === "ok" ? answerFault(operation) : undefined)
  );
}

type Fields = Readonly<Record<keyof Operation, unknown>>;

function commonFault({ client, op, key, status }: Fields): string | undefined {
  if (typeof client !== "string") return "client is not a string";
  if (typeof key !== "string") return "key is not a string";
  if (!["get", "put", "delete", "cas"].includes(op as string)) return "op is none of get, put, delete, cas";
  if (!["ok", "fail", "info"].includes(status as string)) return "status is none of ok, fail, info";
  return undefined;
}

function argumentFault({ op, value, from }: Fields): string | undefined {
  if ((op === "put" || op === "cas") && typeof value !== "string") return "value is not a string";
  if (op === "cas" && !isValueOrMissing(from)) return "from is neither a string nor null";
  return undefined;
}

function timeFault({ status, call, ret }: Fields): string | undefined {
  if (!Number.isSafeInteger(call)) return "call is not a whole number";
  if (status === "info") return ret === null ? undefined : "ret is not null, though the outcome is unknown";
  if (!Number.isSafeInteger(ret)) return "ret is not a whole number";
  return (ret as number) < (call as number) ? "ret is before call" : undefined;
}

function answerFault({ op, found, out }: Fields): string | undefined {
  if (op === "put") return undefined;
  if (typeof found !== "boolean") return "found is not a boolean";
  if (op === "get" && found && typeof out !== "string") return "out is not a string, though the key was found";
  if (op === "get" && !found && typeof out === "string") return "out is a string, though the key was not found";
  if (op === "cas" && !found && out !== undefined && !isValueOrMissing(out)) return "out is neither a string nor null";
  return undefined;
}

function isValueOrMissing(value: unknown): boolean {
  return typeof value === "string" || value === null;
}
