import { nodeFileSystem } from "../../dist/src/system/fs.js";

/** Writes chunks to a new file and syncs it, and does nothing else. The next chunk is awaited while one is being written. */
export async function writeBare(path, chunks) {
  const file = await nodeFileSystem.open(path, "create");
  let at = 0;
  let writing = Promise.resolve();
  for await (const chunk of chunks) {
    await writing;
    writing = file.write([chunk], at);
    at += chunk.byteLength;
  }
  await writing;
  await file.datasync();
  await file.close();
}
