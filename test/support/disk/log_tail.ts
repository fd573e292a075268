import { open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { plausibleHeader, RecordType } from "../../../src/storage/wal/record.js";
import { SEGMENT_HEADER_BYTES } from "../../../src/storage/wal/segment_header.js";

/** Zeroes the log's last segment from its last `entries` entries on, as a disk does that has lied about what was durable. */
export async function loseLogTail(data: string, entries: number): Promise<void> {
  const folder = join(data, "wal");
  const name = (await readdir(folder))
    .filter((each) => each.endsWith(".wal"))
    .sort()
    .at(-1)!;
  const file = await open(join(folder, name), "r+");
  try {
    const segment = await file.readFile();
    const places: number[] = [];
    for (let at = SEGMENT_HEADER_BYTES; at + 16 <= segment.byteLength; ) {
      const header = plausibleHeader(segment, at, at, segment.byteLength);
      if (header === undefined) break;
      if (header.type === RecordType.entry) places.push(at);
      at += header.bytes;
    }
    const from = places.at(-entries);
    if (from === undefined) throw new Error(`${name} has ${places.length} entries, fewer than ${entries}`);
    await file.write(Buffer.alloc(segment.byteLength - from), 0, segment.byteLength - from, from);
  } finally {
    await file.close();
  }
}
