// Ends what a benchmark has started, when the benchmark has ended, in whatever way.
//
// It runs in a process group of its own, so that neither a Ctrl-C nor the end of the terminal
// reaches it. It leaves when its parent does: the channel between them closes.
import { rmSync } from "node:fs";

const pids = new Set();
const directories = new Set();

process.on("message", ({ started, ended, directory }) => {
  if (started !== undefined) pids.add(started);
  if (ended !== undefined) pids.delete(ended);
  if (directory !== undefined) directories.add(directory);
});

process.on("disconnect", () => {
  for (const pid of pids) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It has ended already.
    }
  }
  // A killed process may create a file while its directory is being removed.
  for (const directory of directories) rmSync(directory, { recursive: true, force: true, maxRetries: 20 });
});
