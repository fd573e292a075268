import { type ChildProcess, type StdioOptions, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import type { Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";

/** The command under test; global_setup.ts builds it. */
export const COMMAND = fileURLToPath(new URL("../../../dist/cli/main.js", import.meta.url));

/** How long a process may take to print what a test waits for, or to end, in milliseconds. A bound, not a pause. */
const PATIENCE_MS = 60_000;

/** How a process ended: with an exit code, or by a signal. */
export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface CommandResult extends Exit {
  readonly stdout: string;
  readonly stderr: string;
}

export interface ProcessOptions {
  readonly cwd?: string;
  /** Added to the environment of the test. */
  readonly env?: Readonly<Record<string, string>>;
  /** The program of the command; default: {@link COMMAND}. */
  readonly command?: string;
  /** An open file in place of what {@link RunningCommand.stdout} would gather. */
  readonly stdout?: number;
  /** It leads a group of processes of its own, which is killed with it: what a shell has started in the background. */
  readonly ownGroup?: boolean;
  /** Belongs to the file rather than to the test that starts it: it is killed after the last one. */
  readonly outlivesTest?: boolean;
}

export interface RunningNode {
  /** host:port with the real port. */
  readonly address: string;
  readonly pid: number;
  readonly command: RunningCommand;
  /** All that it has printed so far. */
  output(): string;
  /** Waits until it has told of such an event, and returns the first one. */
  event(kind: string): Promise<Record<string, unknown>>;
  /** SIGKILL unless another signal is given. Resolves when the process has ended. */
  kill(signal?: NodeJS.Signals): Promise<Exit>;
  readonly exited: Promise<Exit>;
}

/**
 * Starts `cairn start` and waits until it listens. The process belongs to the test: it is killed when the test ends, also when it fails
 * (when it is started outside of a test: after the file's last one).
 */
export async function startNode(options: {
  readonly id: string;
  readonly data: string;
  /** Default: a free port on loopback. */
  readonly listen?: string;
  readonly args?: readonly string[];
  readonly command?: string;
  readonly outlivesTest?: boolean;
}): Promise<RunningNode> {
  const { id, data, listen = "127.0.0.1:0", args = [], command: program = COMMAND, outlivesTest = false } = options;
  const all = ["start", "--id", id, "--data", data, "--listen", listen, "--json", ...args];
  const command = startCommand(all, { command: program, outlivesTest });
  const { address } = (await command.event("listening")) as { address: string };
  return {
    address,
    pid: command.pid,
    command,
    output: () => command.stdout + command.stderr,
    event: (kind) => command.event(kind),
    kill: (signal) => command.kill(signal),
    exited: command.exited,
  };
}

/** Runs a cairn command to its end, with this standard input. */
export async function runCommand(
  args: readonly string[],
  options: ProcessOptions & { readonly input?: string | Uint8Array } = {},
): Promise<CommandResult> {
  const command = startCommand(args, options);
  command.stdin.end(options.input ?? "");
  const exit = await command.ended();
  return { ...exit, stdout: command.stdout, stderr: command.stderr };
}

/** Starts a cairn command; it belongs to the test as {@link startNode} says. */
export function startCommand(args: readonly string[], options: ProcessOptions = {}): RunningCommand {
  return startProcess(process.execPath, [options.command ?? COMMAND, ...args], options);
}

/** Starts a cairn command that takes this machine for one of another host name, as a container that was made again does; see {@link canRenameHost}. */
export function startCommandOnHost(
  host: string,
  args: readonly string[],
  options: ProcessOptions = {},
): RunningCommand {
  const script = 'hostname "$0" && exec "$@"';
  return startProcess("unshare", ["--uts", "sh", "-c", script, host, process.execPath, COMMAND, ...args], options);
}

/** Whether this system lets a process have a host name of its own. */
export function canRenameHost(): boolean {
  return spawnSync("unshare", ["--uts", "sh", "-c", "hostname cairn-test"]).status === 0;
}

/** Starts any program; it belongs to the test as {@link startNode} says. */
export function startProcess(file: string, args: readonly string[], options: ProcessOptions = {}): RunningCommand {
  const env = { ...process.env, ...options.env };
  const stdio: StdioOptions = ["pipe", options.stdout ?? "pipe", "pipe"];
  const { cwd = repository, ownGroup = false } = options;
  const command = new RunningCommand(spawn(file, args, { env, cwd, stdio, detached: ownGroup }), ownGroup);
  if (options.outlivesTest) return command;
  try {
    onTestFinished(async () => void (await command.kill()));
  } catch {
    // Not within a test: killProcesses, below, sees to it.
  }
  return command;
}

/** A process with what it has printed so far. */
export class RunningCommand {
  readonly exited: Promise<Exit>;
  stdout = "";
  stderr = "";
  #exit: Exit | undefined;
  /** Where in stdout the next line begins. */
  #lineStart = 0;
  readonly #watchers = new Set<() => void>();

  constructor(
    private readonly child: ChildProcess,
    private readonly hasGroup = false,
  ) {
    running.add(this);
    // Input that is sent to a process that has ended is lost; tests see the exit.
    this.stdin.on("error", () => {});
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.stdout += text;
      this.#notify();
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
      this.#notify();
    });
    // "close" comes when the output has been read to its end, too.
    this.exited = new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code, signal) => {
        this.#exit = { code, signal };
        running.delete(this);
        resolve(this.#exit);
        this.#notify();
      });
    });
    this.exited.catch(() => running.delete(this));
  }

  get pid(): number {
    return this.child.pid ?? -1;
  }

  get stdin(): Writable {
    return this.child.stdin!;
  }

  /** Writes a line to its standard input; resolves when the process may take more. */
  async send(line: string): Promise<void> {
    if (!this.stdin.write(`${line}\n`)) await Promise.race([once(this.stdin, "drain"), this.exited]);
  }

  /** The next line of its standard output that was not handed out yet. */
  nextLine(): Promise<string> {
    return this.until("a line of standard output", () => {
      const end = this.stdout.indexOf("\n", this.#lineStart);
      if (end < 0) return undefined;
      const line = this.stdout.slice(this.#lineStart, end);
      this.#lineStart = end + 1;
      return line;
    });
  }

  /** Waits until what it has printed, on standard output or standard error, matches. */
  waitFor(pattern: RegExp): Promise<RegExpExecArray> {
    return this.until(`${pattern}`, () => pattern.exec(this.stdout) ?? pattern.exec(this.stderr) ?? undefined);
  }

  /** Waits until a node, started with --json, has told of such an event, and returns the first one. */
  async event(kind: string): Promise<Record<string, unknown>> {
    const [line] = await this.waitFor(new RegExp(`^\\{"event":"${kind}".*$`, "m"));
    return JSON.parse(line) as Record<string, unknown>;
  }

  /** Closes this end of its standard output, as a reader that goes away does. */
  stopReading(): void {
    this.child.stdout?.destroy();
  }

  /** SIGKILL unless another signal is given. Resolves when the process has ended. */
  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<Exit> {
    this.signal(signal);
    return this.ended();
  }

  /** Sends a signal to the process, and to its group if it leads one. */
  signal(signal: NodeJS.Signals): void {
    if (this.#exit !== undefined || this.child.pid === undefined) return;
    if (!this.hasGroup) this.child.kill(signal);
    else process.kill(-this.child.pid, signal);
  }

  /** Waits for its end; a process that does not end in time is an error. */
  ended(): Promise<Exit> {
    return this.until("its end", () => this.#exit);
  }

  /** Waits until `look` finds something. */
  async until<Found>(what: string, look: () => Found | undefined, patienceMs = PATIENCE_MS): Promise<Found> {
    let watcher = () => {};
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise((resolve, reject) => {
        watcher = () => {
          const found = look();
          if (found !== undefined) resolve(found);
          else if (this.#exit !== undefined) reject(this.#failure(`ended without ${what}`));
        };
        this.#watchers.add(watcher);
        this.exited.catch(reject);
        timer = setTimeout(() => reject(this.#failure(`did not come to ${what} in ${patienceMs} ms`)), patienceMs);
        watcher();
      });
    } finally {
      clearTimeout(timer);
      this.#watchers.delete(watcher);
    }
  }

  #failure(what: string): Error {
    const exit = this.#exit === undefined ? "running" : `exit ${this.#exit.code ?? this.#exit.signal}`;
    const printed = `--- standard output\n${tail(this.stdout)}\n--- standard error\n${tail(this.stderr)}`;
    return new Error(`process ${this.pid} (${this.child.spawnargs.join(" ")}) ${what} (${exit})\n${printed}`);
  }

  #notify(): void {
    for (const watcher of this.#watchers) watcher();
  }
}

const running = new Set<RunningCommand>();

/** Kills what runs still, and resolves when it has ended: end_processes.ts calls it after each file's last test. */
export async function killProcesses(): Promise<void> {
  await Promise.all([...running].map((command) => command.kill()));
}

// When the test's own process is ended before its tests are: by itself, by Ctrl-C, or because vitest is gone.
process.once("exit", killRunning);
for (const event of ["SIGINT", "SIGTERM", "disconnect"]) {
  process.once(event, () => {
    killRunning();
    // When every listener has been called. No test goes on without vitest.
    setImmediate(() => process.kill(process.pid, "SIGKILL"));
  });
}

function killRunning(): void {
  for (const command of running) command.signal("SIGKILL");
}

function tail(text: string): string {
  return text.length > 4000 ? `...${text.slice(-4000)}` : text;
}

/** The folder of the repository. */
export const repository = fileURLToPath(new URL("../../..", import.meta.url));

/** A file of the repository. */
export function inRepository(...parts: string[]): string {
  return join(repository, ...parts);
}
