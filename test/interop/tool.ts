import { startProcess } from "../support/processes/processes.js";

/** A JSON object as a tool prints it: 64-bit numbers are strings, bytes are base64, what has its default value is left out. */
export type Json = { readonly [field: string]: unknown };

/** What a tool made of a call. */
export interface Answer {
  readonly messages: readonly Json[];
  /** Name of the gRPC status, as OK or INVALID_ARGUMENT. */
  readonly status: string;
  /** What the status says in words. */
  readonly text: string;
}

/** A program that calls gRPC services without knowing their .proto files. */
export interface Tool {
  readonly name: string;
  /** Flags that make it ask for its schema in one way or another, by name; used one after the other. */
  readonly reflections: Readonly<Record<string, readonly string[]>>;
  listServices(address: string, flags?: readonly string[]): Promise<string[]>;
  /** Names of the methods of all services, as cairn.v1.KeyValueService/Get. */
  listMethods(address: string, flags?: readonly string[]): Promise<string[]>;
  /** Calls a method with the messages, one after the other. */
  call(address: string, method: string, messages: readonly Json[], flags?: readonly string[]): Promise<Answer>;
}

/** Runs a program to its end. */
export async function run(file: string, args: readonly string[], input = "") {
  const command = startProcess(file, args);
  command.stdin.end(input);
  const { code } = await command.ended();
  return { code, stdout: command.stdout, stderr: command.stderr };
}

/** As {@link run}, for what must succeed: the lines that it prints. */
export async function linesOf(file: string, args: readonly string[]): Promise<string[]> {
  const { code, stdout, stderr } = await run(file, args);
  if (code !== 0) throw new Error(`${file} ${args.join(" ")} ended with ${code}: ${stderr}`);
  return stdout.split("\n").filter((line) => line !== "");
}

/** The objects in a text, indented and one after the other. */
export function parseObjects(text: string): Json[] {
  const objects = text.split(/(?<=^(?:\}|\{\})\n)/m).filter((each) => each.trim() !== "");
  return objects.map((each) => JSON.parse(each) as Json);
}

/** Objects as a tool takes them on its standard input. */
export function printObjects(messages: readonly Json[]): string {
  return messages.map((message) => `${JSON.stringify(message)}\n`).join("");
}
