import { CairnError } from "../../base/errors.js";
import { endStep } from "./progress.js";

// Writes to standard output, which may be closed at any time: `cairn kv range | head` is no
// failure.

/** Error codes of a write whose reader is gone. */
const GONE: ReadonlySet<string | undefined> = new Set(["EPIPE", "ERR_STREAM_DESTROYED", "ECONNRESET"]);

let isReaderGone = false;

/** Keeps a closed stream from ending the process. A failed write is reported to its callback. */
export function ignoreBrokenStreams(): void {
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
}

/**
 * Writes to standard output, and waits until there is room for more: with a slow reader of a pipe,
 * this process must not hold the unread output. Resolves with false when the reader is gone and
 * wants no more.
 * @throws CairnError DISK_FULL or FAILED_PRECONDITION when the output cannot be written for another
 * reason
 */
export async function print(data: string | Uint8Array): Promise<boolean> {
  if (isReaderGone) return false;
  endStep();
  const error = await new Promise<NodeJS.ErrnoException | null | undefined>((resolve) => {
    process.stdout.write(data, resolve);
  });
  if (!error) return true;
  if (!GONE.has(error.code)) {
    const code = error.code === "ENOSPC" ? "DISK_FULL" : "FAILED_PRECONDITION";
    throw new CairnError(code, `standard output cannot be written: ${error.message}`, { cause: error });
  }
  isReaderGone = true;
  return false;
}
