import { checkKnownPayload } from "../../../../src/machine/known_payloads.js";
import { examineSnapshot, restoreDirectory, verifySnapshotFile } from "../../../../src/storage/snapshot_backup.js";
import { FaultyFileSystem } from "../../../support/disk/faulty_fs.js";
import type { Random } from "../../../support/random.js";
import { mutated } from "../../generate/mutations.js";
import { sealed } from "../../generate/sealed_snapshot.js";
import { expectThat, type Trace } from "../../run/target.js";
import { expectRefusalByName } from "./refusals.js";
import type { Template } from "./template.js";

const FILE = "/data/saved.snap";

/** Examines a damaged saved snapshot, and restores a directory from it, as `cairn snapshot inspect` and `restore` do. */
export async function restoreDamaged(random: Random, template: Template, trace: Trace): Promise<void> {
  const snapshots = [...template.files].filter(([path]) => path.endsWith(".snap"));
  if (snapshots.length === 0) return;
  const [path, original] = random.pick(snapshots);
  const [, other] = random.pick(snapshots);
  const changed = random.oneIn(10) ? Buffer.from(original) : mutated(random, original, other);
  // With checksums that fit, damage is found by what the file says, if at all.
  const isSealed = random.oneIn(2);
  const bytes = isSealed ? sealed(changed) : changed;
  trace(`saved snapshot ${path}${isSealed ? ", sealed" : ""}`, bytes);
  const fs = new FaultyFileSystem(["/data"]);
  fs.setContents(FILE, bytes);
  const { damage, measure, header } = await examineSnapshot(fs, FILE, checkKnownPayload);
  expectThat((damage === undefined) === (measure !== undefined), () => "a file is neither good nor damaged");
  const isOriginal = snapshots.some(([, whole]) => bytes.equals(whole));
  if (isOriginal) expectThat(damage === undefined, () => `an unchanged snapshot is called damaged: ${damage}`);
  else if (!isSealed) expectThat(damage !== undefined, () => "a changed snapshot is called good");
  await restore(fs, damage === undefined ? header : undefined);
  expectThat(fs.openFiles.length === 0, () => `files are left open: ${fs.openFiles.join(", ")}`);
}

/** Restores from the file; it must fail unless the file is good. */
async function restore(fs: FaultyFileSystem, good: object | undefined): Promise<void> {
  const members = [{ id: "n1", address: "127.0.0.1:7101", role: "voter" }] as const;
  let isRestored = false;
  try {
    const { header } = await verifySnapshotFile(fs, FILE, checkKnownPayload);
    const where = { at: header.meta, path: "/data/n1", nodeId: "n1", baseId: "0".repeat(32), members };
    await restoreDirectory({ fs, file: FILE, checkPayload: checkKnownPayload, ...where });
    isRestored = true;
  } catch (error) {
    expectRefusalByName(error);
  }
  expectThat(!isRestored || good !== undefined, () => "a directory is restored from a damaged snapshot");
}
