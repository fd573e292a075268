import { CairnError } from "../../base/errors.js";

// Standard output and standard error may be closed at any time: `cairn kv range | head` is no
// failure.

/** What a write says when nobody reads any more. */
const GONE: ReadonlySet<string | undefined> = new Set(["EPIPE", "ERR_STREAM_DESTROYED", "ECONNRESET"]);

let isReaderGone = false;

/**
 * Keeps a stream that nobody reads from ending the process. A failed write is known by its
 * callback.
 */
export function ignoreBrokenStreams(): void {
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
}

/**
 * Writes to standard output, and waits until there is room for more: a slow reader of a pipe must
 * not make this process hold what it has not read. Resolves with false when the reader is gone, and
 * wants no more.
 * @throws CairnError DISK_FULL or FAILED_PRECONDITION when the output cannot be written for another
 * reason
 */
export async function print(data: string | Uint8Array): Promise<boolean> {
  if (isReaderGone) return false;
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
