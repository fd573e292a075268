import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { freePortRange } from "../support/processes/ports.js";
import { inRepository, type RunningCommand, startProcess } from "../support/processes/processes.js";

const IDS = ["n1", "n2", "n3"];

/** An example that runs as its README line says, but for its ports, its directory and its pace. */
export class RunningExample {
  private constructor(
    private readonly command: RunningCommand,
    private readonly args: readonly string[],
    private readonly node: string,
  ) {}

  static async start(
    name: string,
    everyMs: number,
    run = inRepository("examples/run.mjs"),
    node = process.execPath,
  ): Promise<RunningExample> {
    const directory = await mkdtemp(join(tmpdir(), "cairn-example-"));
    onTestFinished(() => rm(directory, { recursive: true, force: true }));
    const args = [
      run,
      name,
      "--data",
      directory,
      "--base-port",
      `${await freePortRange(2)}`,
      "--every-ms",
      `${everyMs}`,
    ];
    return RunningExample.#start(args, node);
  }

  static #start(args: readonly string[], node: string): RunningExample {
    const command = startProcess(node, args);
    // Before it is killed by the test's end: its members, which follow it, must be gone before their directory is.
    onTestFinished(async () => void (await command.kill("SIGTERM")));
    return new RunningExample(command, args, node);
  }

  /** Stops all members with SIGTERM, and starts them again on what they have on their disks. */
  async restart(): Promise<RunningExample> {
    const exit = await this.command.kill("SIGTERM");
    if (exit.code !== 0) throw new Error(`the example ended with ${exit.code ?? exit.signal}`);
    return RunningExample.#start(this.args, this.node);
  }

  /** Kills a member with SIGKILL, and waits until it is started again. Returns how many lines were printed before. */
  async kill(id: string): Promise<number> {
    const lines = this.lines.length;
    process.kill(this.#pidOf(id), "SIGKILL");
    await this.waitForAfter(lines, new RegExp(`^${id}: ended with SIGKILL`));
    await this.waitForAfter(lines, new RegExp(`^${id}: process`));
    return lines;
  }

  /** Sends a member a signal. Returns how many lines were printed before. */
  signal(id: string, signal: NodeJS.Signals): number {
    const lines = this.lines.length;
    process.kill(this.#pidOf(id), signal);
    return lines;
  }

  /** Kills all members at once. */
  async killAll(): Promise<number> {
    const lines = this.lines.length;
    for (const pid of IDS.map((id) => this.#pidOf(id))) process.kill(pid, "SIGKILL");
    for (const id of IDS) await this.waitForAfter(lines, new RegExp(`^${id}: process`));
    return lines;
  }

  /** The member that leads, as the newest line says. */
  async leader(): Promise<string> {
    await this.waitForAfter(0, /leads term/);
    return this.matches(/: (n\d) leads term \d+/).at(-1)!;
  }

  /** All that was printed, a line each. */
  get lines(): string[] {
    return this.command.stdout.split("\n").slice(0, -1);
  }

  /** The first group of each line that matches. */
  matches(pattern: RegExp, from = 0): string[] {
    return this.lines.slice(from).flatMap((line) => pattern.exec(line)?.[1] ?? []);
  }

  /** Waits for a line behind so many others, and for as many as are wanted. */
  async waitForAfter(lines: number, pattern: RegExp, count = 1): Promise<void> {
    await this.command.until(`${count} x ${pattern} behind line ${lines}`, () => {
      const found = this.lines.slice(lines).filter((line) => pattern.test(line)).length;
      return found >= count ? true : undefined;
    });
  }

  #pidOf(id: string): number {
    return Number(this.matches(new RegExp(`^${id}: process (\\d+)`)).at(-1));
  }
}
