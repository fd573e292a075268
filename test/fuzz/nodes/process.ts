import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { expectThat, Finding } from "../run/target.js";

// Starts the processes that are fuzzed, and tells what they hold.

/** How long a process may take to say something, in milliseconds. A bound, not a pause. */
const PATIENCE_MS = 120_000;

const PROBE_MARK = "cairn-fuzz-probe ";

/** What a process holds after a collection of garbage. */
export interface Probe {
  readonly heapUsed: number;
  readonly external: number;
  readonly rss: number;
  /** Numbers of timers, sockets and so on, by kind. */
  readonly resources: Readonly<Record<string, number>>;
  /** Open files. */
  readonly descriptors: number;
}

const running = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** Finds files of the repository, from wherever this code was bundled to. */
export function inRepository(...parts: string[]): string {
  return join(process.env.CAIRN_FUZZ_ROOT ?? process.cwd(), ...parts);
}

/** Finds files of the product that is fuzzed. */
export function inProduct(...parts: string[]): string {
  return join(process.env.CAIRN_FUZZ_DIST ?? inRepository("dist"), ...parts);
}

/** A process that is fuzzed. Its output is kept, and read for signs of bugs. */
export class FuzzedProcess {
  #lines: string[] = [];
  #rest = "";
  #errors = "";
  #probes: Omit<Probe, "descriptors">[] = [];
  #exit: string | undefined;
  #isWanted = false;
  readonly #child: ChildProcess;
  readonly #waiting = new Set<() => void>();

  /** @param args arguments of node, behind those that this harness needs */
  constructor(
    readonly name: string,
    args: readonly string[],
    input: "pipe" | "ignore" = "ignore",
  ) {
    const probe = inRepository("test/fuzz/nodes/probe.mjs");
    this.#child = spawn(process.execPath, ["--expose-gc", "--import", probe, ...args], {
      stdio: [input, "pipe", "pipe"],
      cwd: inRepository(),
    });
    running.add(this.#child);
    this.#child.stdout?.setEncoding("utf8").on("data", (text: string) => this.#output(text));
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => this.#complaint(text));
    this.#child.stdin?.on("error", () => {});
    this.#child.once("close", (code, signal) => {
      running.delete(this.#child);
      this.#exit = String(signal ?? code);
      this.#wake();
    });
  }

  get exit(): string | undefined {
    return this.#exit;
  }

  /** What it has written to standard error. */
  get errors(): string {
    return this.#errors;
  }

  /** Lines of standard output that nobody has taken. */
  get lines(): readonly string[] {
    return this.#lines;
  }

  takeLines(): string[] {
    const lines = this.#lines;
    this.#lines = [];
    return lines;
  }

  write(bytes: string | Uint8Array): void {
    this.#child.stdin!.write(bytes);
  }

  endInput(): void {
    this.#child.stdin!.end();
  }

  /** Waits until a line of standard output begins with this, and returns the first one. */
  async line(start: string): Promise<string> {
    await this.until(() => this.#lines.some((line) => line.startsWith(start)), `says ${start}`);
    return this.#lines.find((line) => line.startsWith(start))!;
  }

  /** @throws Finding when the process has ended by itself, or has logged a bug */
  expectWell(): void {
    if (this.#exit !== undefined && !this.#isWanted) {
      throw new Finding(`${this.name} has ended (${this.#exit}); it said: ${this.#errors.slice(-6_000)}`);
    }
    const bug = BUG.exec(this.#errors);
    expectThat(
      bug === null,
      () => `${this.name} has logged a bug: ${this.#errors.slice(Math.max(0, bug!.index - 500)).slice(0, 5_000)}`,
    );
  }

  /** Collects its garbage, and returns what it holds. */
  async probe(): Promise<Probe> {
    const before = this.#probes.length;
    this.#child.kill("SIGUSR2");
    await this.until(() => this.#probes.length > before, "answers a probe");
    return { ...this.#probes.at(-1)!, descriptors: this.#descriptors() };
  }

  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    this.#isWanted = true;
    if (this.#exit !== undefined) return;
    this.#child.kill(signal);
    await this.until(() => this.#exit !== undefined, "ends");
  }

  /** Waits until a condition holds, looking whenever the process says something. */
  async until(condition: () => boolean, what: string, patienceMs = PATIENCE_MS): Promise<void> {
    const deadline = performance.now() + patienceMs;
    while (!condition()) {
      if (this.#exit !== undefined) {
        throw new Finding(`${this.name} ended (${this.#exit}) before it ${what}: ${this.#errors.slice(-4_000)}`);
      }
      const left = deadline - performance.now();
      expectThat(
        left > 0,
        () => `${this.name} hangs: in ${patienceMs} ms it never ${what}; ${this.#errors.slice(-2_000)}`,
      );
      await new Promise<void>((resolve) => {
        const done = () => {
          clearTimeout(timer);
          this.#waiting.delete(done);
          resolve();
        };
        const timer = setTimeout(done, Math.min(left, 1_000));
        this.#waiting.add(done);
      });
    }
  }

  #descriptors(): number {
    try {
      return readdirSync(`/proc/${this.#child.pid}/fd`).length;
    } catch {
      return 0;
    }
  }

  #output(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop()!;
    this.#lines.push(...lines);
    this.#wake();
  }

  #complaint(text: string): void {
    this.#errors += text;
    for (let at = this.#errors.indexOf(PROBE_MARK); at >= 0; at = this.#errors.indexOf(PROBE_MARK)) {
      const end = this.#errors.indexOf("\n", at);
      if (end < 0) break;
      this.#probes.push(JSON.parse(this.#errors.slice(at + PROBE_MARK.length, end)));
      this.#errors = this.#errors.slice(0, at) + this.#errors.slice(end + 1);
    }
    // Refusals are logged too: the newest are enough.
    if (this.#errors.length > 400_000) this.#errors = this.#errors.slice(-200_000);
    this.#wake();
  }

  #wake(): void {
    for (const done of [...this.#waiting]) done();
  }
}

/**
 * What a node logs about a bug: an unexpected error of a call, a broken assertion, an error of JavaScript, a warning of Node about leaks.
 */
const BUG =
  /a call failed|AssertionError|assertion failed|TypeError|ReferenceError|RangeError|UnhandledPromise|MaxListenersExceeded|stopped itself|an ingress process has ended|\[INTERNAL\]/;
