// Reads how much CPU, memory and disk a process has taken, from /proc.
import { readdirSync, readFileSync } from "node:fs";

const SAMPLE_MS = 100;
/** Of the CPU times in /proc, on every architecture that Linux runs Node.js on. */
const TICKS_A_SECOND = 100;

/**
 * Follows one process. After its end, the last values stay. Without /proc all values are NaN.
 *
 * Anonymous memory is the process's own. File-backed memory is its share of the page cache through
 * mapped files, which the kernel can drop; pages that are mapped twice count twice.
 */
export class Usage {
  #pid;
  #timer;
  #peaks = { anonymousBytes: Number.NaN, fileBytes: Number.NaN };
  #last = { cpuSeconds: Number.NaN, writtenBytes: Number.NaN };

  constructor(pid) {
    this.#pid = pid;
    this.#sample();
    this.#timer = setInterval(() => this.#sample(), SAMPLE_MS);
    this.#timer.unref();
  }

  /** CPU seconds and bytes written to disk since the process started, and peaks of its memory. */
  read() {
    this.#sample();
    return { ...this.#last, ...this.#peaks };
  }

  /** Memory and open descriptors as they are now. @throws when the process has ended */
  now() {
    const status = this.#file("status");
    return {
      anonymousBytes: value(status, "RssAnon") * 1024,
      fileBytes: value(status, "RssFile") * 1024,
      descriptors: readdirSync(`/proc/${this.#pid}/fd`).length,
    };
  }

  stop() {
    clearInterval(this.#timer);
    return this.read();
  }

  #sample() {
    try {
      const status = this.#file("status");
      const stat = this.#file("stat").split(") ").at(-1).split(" ");
      const cpuSeconds = (Number(stat[11]) + Number(stat[12])) / TICKS_A_SECOND;
      // A process that has ended and is not waited for yet has no memory.
      if (!/^RssAnon/m.test(status)) return;
      this.#last = { cpuSeconds, writtenBytes: value(this.#file("io"), "write_bytes") };
      this.#peaks = {
        anonymousBytes: larger(this.#peaks.anonymousBytes, value(status, "RssAnon") * 1024),
        fileBytes: larger(this.#peaks.fileBytes, value(status, "RssFile") * 1024),
      };
    } catch {
      // The process has ended, or this system has no /proc.
    }
  }

  #file(name) {
    return readFileSync(`/proc/${this.#pid}/${name}`, "utf8");
  }
}

function larger(before, now) {
  return before > now ? before : now;
}

function value(text, name) {
  return Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(text)?.[1] ?? Number.NaN);
}
