// Preloaded into a process under test (`node --import`): its syncs of files take as long as the file named by CAIRN_TEST_SYNC_DELAY says, in
// milliseconds. The file may change at any time, also while a sync is under way; without it syncs are as fast as the disk.
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";

/** How often a sync that is held back looks whether it may go on, in milliseconds. */
const LOOK_MS = 20;

const { fdatasync, fdatasyncSync } = fs;

function delayMs() {
  try {
    return Number(fs.readFileSync(process.env.CAIRN_TEST_SYNC_DELAY, "utf8")) || 0;
  } catch {
    return 0;
  }
}

fs.fdatasync = (descriptor, done) => {
  const begunMs = performance.now();
  const look = () => {
    const ms = delayMs();
    if (ms === 0 || performance.now() - begunMs >= ms) fdatasync(descriptor, done);
    else setTimeout(look, LOOK_MS);
  };
  look();
};

const held = new Int32Array(new SharedArrayBuffer(4));

/** A sync on the calling thread holds that thread up, as a slow disk does. */
fs.fdatasyncSync = (descriptor) => {
  const begunMs = performance.now();
  for (let ms = delayMs(); ms > 0 && performance.now() - begunMs < ms; ms = delayMs())
    Atomics.wait(held, 0, 0, LOOK_MS);
  fdatasyncSync(descriptor);
};
syncBuiltinESMExports();
