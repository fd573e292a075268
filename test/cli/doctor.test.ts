import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import {
  GetLogInfoResponseSchema,
  GetStatusResponseSchema,
  HealthVerdict,
  NodeRole,
} from "../../gen/cairn/v1/admin_pb.js";
import type { ClockSample } from "../../src/cli/commands/doctor/clock_findings.js";
import { clockFindings } from "../../src/cli/commands/doctor/clock_findings.js";
import { clusterFindings, logExtent } from "../../src/cli/commands/doctor/cluster_findings.js";
import { directoryFindings } from "../../src/cli/commands/doctor/directory_findings.js";
import { paceFinding, spaceFindings } from "../../src/cli/commands/doctor/disk_findings.js";
import { measureDisk } from "../../src/cli/commands/doctor/disk_probe.js";
import { type DoctorFinding, findingsText } from "../../src/cli/commands/doctor/findings.js";
import type { MemberReply } from "../../src/cli/commands/doctor/members.js";
import { processFindings } from "../../src/cli/commands/doctor/process_findings.js";
import { DataDirectory } from "../../src/storage/data_dir.js";
import { StoppedDirectory } from "../../src/storage/stopped_directory.js";
import { WriteAheadLog } from "../../src/storage/wal/wal.js";
import { nodeFileSystem } from "../../src/system/fs.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { putEntries } from "../support/nodes/acting_leader.js";

const GiB = 2 ** 30;

interface Given {
  readonly role?: "voter" | "learner";
  readonly wantsVote?: boolean;
  readonly leads?: true;
  readonly version?: string;
  readonly health?: HealthVerdict;
  readonly warnings?: string[];
  readonly logBytes?: number;
  readonly applied?: number;
  readonly openFiles?: number;
  readonly error?: string;
}

function member(id: string, given: Given = {}): MemberReply {
  const { role = "voter", wantsVote = false, applied = 10, version = "1", warnings = [], logBytes = 1_000 } = given;
  const named = { id, address: `${id}:1`, role, wantsVote };
  if (given.error !== undefined) return { member: named, error: given.error };
  const status = create(GetStatusResponseSchema, {
    nodeId: id,
    role: given.leads ? NodeRole.LEADER : NodeRole.FOLLOWER,
    version,
    warnings,
    commitIndex: 10n,
    appliedIndex: BigInt(applied),
    health: [{ nodeId: id, verdict: given.health ?? HealthVerdict.HEALTHY, reason: "as it says" }],
    process: {
      pid: 1n,
      memoryBytes: 1n,
      memoryLimitBytes: 8n * BigInt(GiB),
      openFilesLimit: BigInt(given.openFiles ?? 65_536),
    },
  });
  const log = create(GetLogInfoResponseSchema, { firstIndex: 1n, lastIndex: 10n, diskBytes: BigInt(logBytes) });
  return { member: named, status, log, clocks: [] };
}

function judge(...members: MemberReply[]): DoctorFinding[] {
  return clusterFindings({ clusterId: "c", leaderId: "n1", members });
}

/** The findings that are not ok, without their advice. */
function bad(findings: readonly DoctorFinding[]): string[] {
  for (const { level, advice } of findings) expect(advice === undefined).toBe(level === "ok");
  return findings
    .filter(({ level }) => level !== "ok")
    .map(({ level, subject, text }) => `${level} ${subject}: ${text}`);
}

describe("the doctor's verdict on a cluster", () => {
  test("is good for three voters in step", () => {
    expect(bad(judge(member("n1", { leads: true }), member("n2"), member("n3")))).toEqual([]);
  });

  test.each([
    [
      "a silent voter",
      { error: "no route" },
      [
        "warning quorum: 2 of 3 voters answer, and 2 are needed: the loss of one more stops all writes",
        "problem member n3: does not answer: no route",
      ],
    ],
    ["a sick member", { health: HealthVerdict.SLOW_DISK }, ["problem member n3: slow disk: as it says"]],
    ["a member that warns", { warnings: ["a file is damaged"] }, ["warning member n3: a file is damaged"]],
    [
      "a mixture of versions",
      { version: "2" },
      ["warning versions: n1 runs 1, an earlier build; n2 runs 1, an earlier build; n3 runs 2, an earlier build"],
    ],
    ["too few descriptors", { openFiles: 1024 }, ["warning limits: n3 may have 1024 files and connections open"]],
    ["a log without an end", { logBytes: GiB }, ["warning log: n3 has 10 entries in 1.1 GB of log, no snapshot yet"]],
  ])("names %s", (_, given, expected) => {
    expect(bad(judge(member("n1", { leads: true }), member("n2"), member("n3", given)))).toEqual(expected);
  });

  test("names learners that were never promoted, a lost quorum, a missing leader, and numbers of voters that help nobody", () => {
    const voters = [member("n1", { leads: true }), member("n2"), member("n3")];
    const learner = (wantsVote: boolean) => bad(judge(...voters, member("n4", { role: "learner", wantsVote })));
    expect(learner(false)).toEqual(["warning member n4: it is a learner, and was never promoted"]);
    expect(learner(true)).toEqual(["warning member n4: it is a learner that waits for its vote"]);
    const lost = {
      clusterId: "c",
      leaderId: "",
      members: [member("n1"), member("n2", { error: "x" }), member("n3", { error: "x" })],
    };
    expect(bad(clusterFindings(lost)).slice(0, 2)).toEqual([
      "problem leader: cluster c has no leader",
      "problem quorum: 1 of 3 voters answer, and 2 are needed",
    ]);
    expect(bad(judge(member("n1", { leads: true })))).toEqual([
      "warning voters: there is one voter: its disk holds the only copy",
    ]);
    expect(bad(judge(...voters, member("n4")))).toEqual(["warning voters: 4 voters survive the loss of 1, as 3 would"]);
  });
});

describe("the doctor's verdict on clocks", () => {
  const sample = (atMs: number, { aheadMs = 0, pace = 1, roundTripMs = 2 } = {}): ClockSample => ({
    unixMs: 1e12 + atMs + aheadMs,
    upMs: 500 + atMs * pace,
    ownUnixMs: 1e12 + atMs,
    ownMs: atMs,
    roundTripMs,
  });
  const node = (name: string, first = {}, second = first) => ({
    name,
    first: sample(0, first),
    second: sample(1_000, second),
  });

  test.each([
    [
      "good, when they agree within the time that the question took",
      [node("a", { aheadMs: 400, roundTripMs: 600 }), node("b")],
      [],
    ],
    [
      "a warning, when the wall clocks differ",
      [node("a", { aheadMs: -900 }), node("b")],
      ["warning clock: the wall clocks of a and b are 900 ms apart (to within 2.00 ms)"],
    ],
    [
      "a problem, when they differ by far",
      [node("a"), node("b", { aheadMs: 60_000 }), node("c")],
      ["problem clock: the wall clocks of a and b are 60.0 s apart (to within 2.00 ms)"],
    ],
    [
      "a warning, when one was set meanwhile",
      [node("a", {}, { aheadMs: 200 })],
      ["warning clock: the wall clock of a was set while this looked: by 200 ms forward"],
    ],
    [
      "a warning, when a monotonic clock has another pace",
      [node("a", {}, { pace: 1.05, aheadMs: 50 })],
      ["warning clock: the monotonic clock of a advanced by 1050 ms while that here advanced by 1000 ms"],
    ],
  ])("is %s", (_, nodes, expected) => expect(bad(clockFindings(nodes))).toEqual(expected));
});

describe("the doctor's verdict on a machine", () => {
  test("depends on free space, on the file system, on synced writes and on limits", () => {
    const ext4 = 0xef53;
    const size = 100e9;
    expect(bad(spaceFindings({ type: ext4, freeBytes: 5e9, sizeBytes: size }))).toEqual([]);
    expect(bad(spaceFindings({ type: ext4, freeBytes: 1e9, sizeBytes: size }))).toEqual([
      "warning space: 1.0 GB of 100.0 GB are free",
    ]);
    expect(bad(spaceFindings({ type: ext4, freeBytes: 1e6, sizeBytes: size }))).toEqual([
      "problem space: 1.0 MB of 100.0 GB are free",
    ]);
    expect(bad(spaceFindings({ type: 0x01021994, freeBytes: 5e9, sizeBytes: size }))).toEqual([
      "problem file system: tmpfs: all is lost when the machine stops",
    ]);
    expect(bad(spaceFindings({ type: 0x6969, freeBytes: 5e9, sizeBytes: size }))).toHaveLength(1);
    const pace = { writes: 9, p50Ms: 1, p99Ms: 5, maxMs: 9 };
    expect(paceFinding(pace).level).toBe("ok");
    expect(paceFinding({ ...pace, p50Ms: 20 }).level).toBe("warning");
    expect(paceFinding({ ...pace, p99Ms: 2_000 }).level).toBe("problem");
    expect(bad(processFindings("it", { memoryBytes: 9, memoryLimitBytes: 10 }))).toEqual([
      "problem memory: it has 9 bytes of 10 bytes",
    ]);
    expect(bad(processFindings("it", { memoryLimitBytes: 1e8 }))).toHaveLength(1);
    expect(processFindings("it", {})).toEqual([]);
    const large = { logBytes: GiB, entries: 9, snapshotIndex: 5 };
    expect(logExtent("it", { ...large, snapshotBytes: 1_000 }).level).toBe("warning");
    // A large state makes snapshots rarer: the log may grow with it.
    expect(logExtent("it", { ...large, snapshotBytes: GiB }).level).toBe("ok");
  });

  test("measures real synced writes, and leaves no file behind", async () => {
    const directory = await temporaryDirectory();
    const { writes, p50Ms, p99Ms, maxMs } = await measureDisk(directory, 50);
    expect(writes).toBeGreaterThan(0);
    expect(p50Ms).toBeGreaterThan(0);
    expect(p50Ms <= p99Ms && p99Ms <= maxMs * 1.01).toBe(true);
    expect(await readdir(directory)).toEqual([]);
  });
});

describe("the doctor's verdict on the directory of a stopped node", () => {
  test("follows its log, its stop mark, its snapshots and what earlier losses have left", async () => {
    const path = join(await temporaryDirectory(), "n1");
    const fs = nodeFileSystem;
    const options = { fs, path, nodeId: "n1", clusterId: "c", newClusterId: () => "c", members: [] };
    const opened = await (await DataDirectory.open(options)).complete();
    const log = await WriteAheadLog.create(
      { fs, directory: opened.log },
      { index: 0, term: 0 },
      { term: 1, vote: undefined, commit: 0 },
    );
    await log.append({ entries: putEntries(1, 20), sync: true });
    await log.close();
    await opened.markStopped({ index: 20, term: 1 });
    await opened.close();
    const look = async () => bad(await directoryFindings(await StoppedDirectory.open(fs, path)));
    expect(await look()).toEqual([]);

    await mkdir(join(path, "lost-1234"));
    const left = "warning lost data: set aside by earlier starts: lost-1234";
    expect(await look()).toEqual([left]);

    const again = await DataDirectory.open(options);
    const { log: longer } = await WriteAheadLog.open({ fs, directory: again.log });
    await longer.trim(15);
    await longer.close();
    await again.markStopped({ index: 25, term: 1 });
    await again.close();
    expect(await look()).toEqual([
      "problem log: it ended at index 25 at the last clean stop, and ends at 20 now",
      "problem log: it starts behind index 15, and there is no good snapshot",
      left,
    ]);
  });
});

test("findings are printed with what to do, and a summary", () => {
  expect(
    findingsText([
      { subject: "disk", level: "ok", text: "fine" },
      { subject: "clock", level: "warning", text: "odd", advice: "Set it." },
    ]),
  ).toBe(
    ["ok       disk   fine", "WARNING  clock  odd", "                -> Set it.", "no problems, 1 warning"].join("\n"),
  );
});
