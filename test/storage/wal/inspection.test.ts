import { describe, expect, test } from "vitest";
import { CairnError } from "../../../src/base/errors.js";
import { membershipCodec } from "../../../src/encoding/membership.js";
import { type InspectedPart, inspectLog } from "../../../src/storage/wal/inspection.js";
import type { FaultyFileSystem } from "../../support/disk/faulty_fs.js";
import { seededRandom } from "../../support/random.js";
import {
  createLog,
  DIRECTORY,
  digests,
  entriesFrom,
  entry,
  files,
  newFileSystem,
  openLog,
  readAll,
} from "./support.js";

const SIZES = { segmentBytes: 4096, fillBytes: 4096 };

/** A log of several segments that was trimmed and in part replaced, and has a tail that was never synced. */
async function richLog(fs = newFileSystem()): Promise<FaultyFileSystem> {
  const log = await createLog(fs, SIZES);
  for (let low = 1; low <= 90; low += 5) {
    await log.append({
      entries: entriesFrom(low, low + 4, 1, 60),
      hardState: { term: 1, vote: "a", commit: low - 1 },
      sync: true,
    });
  }
  await log.trim(20);
  await log.append({ entries: entriesFrom(86, 92, 2, 60), hardState: { term: 2, vote: "b", commit: 70 }, sync: true });
  const members = membershipCodec.encode([{ id: "b", address: "h:1", role: "voter" }]);
  await log.append({ entries: [{ index: 93, term: 2, type: "configuration", data: members }], sync: true });
  await log.append({ entries: entriesFrom(94, 99, 2, 60), sync: false });
  await log.crash();
  return fs;
}

async function inspected(fs: FaultyFileSystem) {
  const parts: InspectedPart[] = [];
  const findings = await inspectLog(fs, DIRECTORY, {
    visit: (part) => {
      if (part.kind === "entry")
        parts.push({ ...part, entry: { ...part.entry, data: Uint8Array.from(part.entry.data) } });
      else parts.push(part);
    },
  });
  return { findings, parts };
}

describe("the inspection of a log", () => {
  test("shows every record, replaced entries included, and changes nothing", async () => {
    const fs = await richLog();
    const before = digests(fs);
    const { findings, parts } = await inspected(fs);
    expect(digests(fs)).toEqual(before);
    expect(fs.openFiles).toEqual([]);
    expect(findings).toMatchObject({
      boundary: { index: 20, term: 1 },
      last: { index: 99, term: 2 },
      hardState: { term: 2, vote: "b", commit: 70 },
      refusal: undefined,
      torn: undefined,
      damages: [],
    });
    expect(membershipCodec.decode(findings.configuration!)).toEqual([{ id: "b", address: "h:1", role: "voter" }]);
    const live = new Map<number, unknown>();
    for (const part of parts) if (part.kind === "entry") live.set(part.entry.index, part.entry);
    expect(parts).toContainEqual(expect.objectContaining({ kind: "entry", entry: entry(86, 2, 60), replaces: true }));
    const { log } = await openLog(fs, SIZES);
    expect([...live.entries()].filter(([index]) => index > 20).map(([, each]) => each)).toEqual(await readAll(log));
  });

  test("gives the verdict of a start, for bits that flip and files that end anywhere", async () => {
    const whole = await richLog();
    const random = seededRandom(16);
    const pick = (below: number) => Math.floor(random() * below);
    const verdicts = { opens: 0, torn: 0, refused: 0 };
    for (let run = 0; run < 150; run++) {
      const fs = newFileSystem();
      await fs.makeDirectory(DIRECTORY);
      for (const [path, bytes] of whole.image()) fs.setContents(path, bytes);
      const paths = await files(fs);
      const path = random() < 0.5 ? paths.at(-1)! : paths[pick(paths.length)]!;
      const bytes = fs.contents(path);
      const used = path === paths.at(-1) ? lastByte(bytes) + 8 : bytes.byteLength;
      if (random() < 0.3) fs.setContents(path, bytes.subarray(0, pick(used)));
      else if (random() < 0.1) await fs.unlink(path);
      else fs.flipBit(path, pick(used), pick(8));
      const { findings } = await inspected(fs);
      const started = await openLog(fs, SIZES).catch((error: unknown) => CairnError.from(error));
      if (started instanceof CairnError) {
        verdicts.refused++;
        expect(findings.refusal, `run ${run}: ${path}`).toBe(started.text);
        continue;
      }
      expect(findings.refusal, `run ${run}: ${path}`).toBeUndefined();
      verdicts[started.tornBytes > 0 ? "torn" : "opens"]++;
      const { boundary, last, hardState } = started.log;
      expect({ ...findings, torn: findings.torn?.bytes ?? 0 }).toMatchObject({
        boundary,
        last,
        hardState,
        torn: started.tornBytes,
      });
    }
    for (const count of Object.values(verdicts)) expect(count).toBeGreaterThan(5);
  });

  test("reads past damage, and names the entries that are lost at each place", async () => {
    const fs = await richLog();
    const places: { readonly path: string; readonly offset: number }[] = [];
    for (const text of ["24/1;24", "60/1;60"]) {
      for (const path of await files(fs)) {
        const at = Buffer.from(fs.contents(path)).indexOf(text);
        if (at < 0) continue;
        fs.flipBit(path, at, 3);
        // Record header, then index, term, type, and tag and length of the data, of two bytes each.
        places.push({ path, offset: at - 16 - 8 });
      }
    }
    const { findings, parts } = await inspected(fs);
    expect(findings.damages).toEqual([
      expect.objectContaining({ ...places[0], entries: { from: 24, to: 24 } }),
      expect.objectContaining({ ...places[1], entries: { from: 60, to: 60 } }),
    ]);
    expect(findings.last).toEqual({ index: 99, term: 2 });
    expect(parts.filter(({ kind }) => kind === "damage")).toHaveLength(2);
  });

  test("says that a missing log is refused, and stops when it is told to", async () => {
    const empty = newFileSystem();
    await empty.makeDirectory(DIRECTORY);
    expect((await inspected(empty)).findings.refusal).toContain("the log is missing");
    const fs = newFileSystem();
    const log = await createLog(fs, { segmentBytes: 1 << 22, fillBytes: 4096 });
    for (let low = 1; low < 2_000; low += 500)
      await log.append({ entries: entriesFrom(low, low + 499, 1, 900), sync: true });
    const signal = AbortSignal.abort();
    await expect(inspectLog(fs, DIRECTORY, { signal })).rejects.toMatchObject({ code: "CANCELLED" });
    expect(fs.openFiles.length).toBeLessThanOrEqual(1);
  });
});

function lastByte(bytes: Uint8Array): number {
  let at = bytes.byteLength - 1;
  while (at > 0 && bytes[at] === 0) at--;
  return at;
}
