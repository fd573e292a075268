import { DirectoryLock } from "../../../src/storage/lock.js";
import { nodeFileSystem } from "../../../src/system/fs.js";

// Takes the lock on a directory when told to on standard input ("go"), says how that ended on standard output ("held" or the error), and
// then holds it until it is told to release it ("release"), or is killed.

const directory = process.argv[2]!;
let lock: DirectoryLock | undefined;

process.stdout.write("ready\n");
process.stdin.setEncoding("utf8");
for await (const line of process.stdin) {
  if (line.includes("go")) await take();
  if (line.includes("release")) {
    await lock?.release();
    process.stdout.write("released\n");
  }
}

async function take(): Promise<void> {
  try {
    lock = await DirectoryLock.acquire(nodeFileSystem, directory);
    process.stdout.write("held\n");
  } catch (error) {
    process.stdout.write(`${(error as Error).message}\n`);
  }
}
