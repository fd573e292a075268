// Starts processes and directories that end with the benchmark.
import { fork, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** Bound on the time for an answer through a process's channel. */
const ANSWER_MS = 20_000;

/** Owns processes: a keeper kills those that run when this process ends, also by SIGKILL. */
export class Processes {
  #keeper;

  constructor() {
    const file = fileURLToPath(new URL("keeper.mjs", import.meta.url));
    this.#keeper = fork(file, [], { detached: true, stdio: ["ignore", "ignore", "inherit", "ipc"] });
    this.#keeper.unref();
    this.#keeper.channel.unref();
  }

  /** Makes a directory that is removed at the end. */
  directory(parent, prefix) {
    const directory = mkdtempSync(join(parent, prefix));
    this.#keeper.send({ directory });
    return directory;
  }

  /** Removes such a directory. Nothing writes to it any longer. */
  remove(directory) {
    rmSync(directory, { recursive: true, force: true });
  }

  /** Starts a process whose output goes to the end of a file, on request with a channel to it. */
  start(command, args, logFile, { channel = false } = {}) {
    const log = openSync(logFile, "a");
    const child = spawn(command, args, { stdio: ["ignore", log, log, ...(channel ? ["ipc"] : [])] });
    closeSync(log);
    return this.#own(child, logFile);
  }

  /**
   * Runs a program to its end and returns its standard output.
   * @throws Error with the end of its standard error, when it fails
   */
  async run(command, args, options = {}) {
    const child = spawn(command, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
    const output = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"]) {
      child[name].setEncoding("utf8").on("data", (text) => {
        output[name] += text;
      });
    }
    const { ended } = this.#own(child);
    const code = await ended;
    if (code === 0) return output.stdout;
    throw new Error(`${command} has ended with ${code}: ${output.stderr.trim().split("\n").slice(-6).join("\n")}`);
  }

  #own(child, logFile) {
    const ended = new Promise((resolve, reject) => {
      child.once("error", reject);
      // Not at its exit, when some of its output may be unread.
      child.once("close", (code, signal) => {
        this.#keeper.send({ ended: child.pid });
        resolve(code ?? signal);
      });
    });
    // Some nobody waits for.
    ended.catch(() => {});
    if (child.pid !== undefined) this.#keeper.send({ started: child.pid });
    return new OwnedProcess(child, ended, logFile);
  }
}

class OwnedProcess {
  constructor(child, ended, logFile) {
    this.child = child;
    this.ended = ended;
    this.logFile = logFile;
  }

  get pid() {
    return this.child.pid;
  }

  get runs() {
    return this.child.exitCode === null && this.child.signalCode === null && this.pid !== undefined;
  }

  /** Sends a message through the channel and returns the answer. @throws when it has ended */
  async ask(message) {
    const answer = once(this.child, "message", { signal: AbortSignal.timeout(ANSWER_MS) });
    this.child.send(message);
    const [result] = await answer;
    return result;
  }

  /** Kills it with SIGKILL, unless it has ended, and waits for its end. */
  async kill() {
    this.child.kill("SIGKILL");
    await this.ended.catch(() => {});
  }

  /** The end of its output, to go into an error. */
  lastWords() {
    return readFileSync(this.logFile, "utf8").slice(-2_000);
  }
}
