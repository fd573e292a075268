import { describe, expect, test } from "vitest";
import { limits } from "../../../src/base/limits.js";
import { LagMonitor } from "../../../src/node/snapshots/lag_monitor.js";
import type { OutgoingTransfer } from "../../../src/node/snapshots/send_queue.js";
import { sizeText } from "../../../src/node/snapshots/sizes.js";
import type { ProgressInfo } from "../../../src/raft/raft.js";
import { ManualClock } from "../../support/conditions.js";

const MiB = 1024 * 1024;
const KEPT = 100 * MiB;
const SNAPSHOT = 300 * MiB;

/** A leader that writes so many bytes of log a second, and sends n2 a snapshot with so many bytes a second. */
class Leading {
  readonly clock = new ManualClock();
  readonly logged: string[] = [];
  readonly monitor: LagMonitor;
  transfer: OutgoingTransfer | undefined;
  members: ProgressInfo[] = [
    { id: "n2", key: "n2", match: 0, next: 1, sentRound: 0, ackedRound: 0, state: "snapshot", isActive: true },
  ];
  lastIndex = 1_000_000;
  writeRate = 0;
  #written = 0;

  constructor() {
    const warn = (facts: object, message: string) => this.logged.push((facts as { detail?: string }).detail ?? message);
    this.monitor = new LagMonitor({
      clock: this.clock,
      logger: { debug: () => {}, info: () => {}, warn, error: () => {} },
      keptBytes: KEPT,
      writtenBytes: () => this.#written,
      progress: () => this.members,
      lastIndex: () => this.lastIndex,
    });
  }

  begin(): void {
    this.monitor.begun("n2");
    this.transfer = { to: "n2", index: 50, totalBytes: SNAPSHOT, doneBytes: 0, bytesPerSecond: 0 } as OutgoingTransfer;
  }

  /** Seconds pass, and so much more of the snapshot arrives in each. */
  pass(seconds: number, transferRate = 0): void {
    for (let second = 0; second < seconds; second++) {
      this.clock.advance(1_000);
      this.#written += this.writeRate;
      if (this.transfer !== undefined) {
        const doneBytes = this.transfer.doneBytes + transferRate;
        this.transfer = { ...this.transfer, doneBytes, bytesPerSecond: transferRate };
      }
      this.monitor.tick(this.transfer === undefined ? [] : [this.transfer]);
    }
  }

  end(boundary = 50): void {
    this.transfer = undefined;
    this.monitor.ended("n2", { index: 50, fileBytes: SNAPSHOT }, boundary);
  }

  become(change: Partial<ProgressInfo>): void {
    this.members = this.members.map((member) => ({ ...member, ...change }));
  }
}

describe("a follower that receives a snapshot", () => {
  test("is warned about once, as soon as too much log is foreseen to be written meanwhile", () => {
    const node = new Leading();
    node.writeRate = 20 * MiB;
    node.begin();
    node.pass(4, 15 * MiB);
    expect(node.monitor.warnings).toEqual([]);
    expect(node.monitor.margins([node.transfer!])).toEqual(new Map());
    node.pass(1, 15 * MiB);
    const text =
      "n2 cannot catch up: a snapshot of 300 MiB takes 20 s to arrive and be installed, at 15 MiB/s, and the log grows by 20 MiB/s " +
      "meanwhile, more than the 100 MiB kept for it; slow the writes down, or raise snapshotBandwidth (--snapshot-bandwidth) or pinnedLogBytes (--pinned-log-bytes)";
    expect(node.monitor.warnings).toEqual([text]);
    // 400 MiB will be written in the 20 s.
    expect(node.monitor.margins([node.transfer!])).toEqual(new Map([["n2", KEPT - 400 * MiB]]));
    node.pass(10, 15 * MiB);
    expect(node.monitor.warnings).toEqual([text]);
    expect(node.logged).toEqual([text]);
  });

  test("is not warned about while the retained log suffices", () => {
    const node = new Leading();
    node.writeRate = 4.9 * MiB;
    node.begin();
    node.pass(20, 15 * MiB);
    node.end();
    expect([node.monitor.warnings, node.logged]).toEqual([[], []]);
  });

  test("is judged in the end by the time that it took, installation included", () => {
    const node = new Leading();
    node.writeRate = 4.9 * MiB;
    node.begin();
    node.pass(20, 15 * MiB);
    // All has arrived, and is being installed.
    node.pass(20);
    node.end();
    expect(node.monitor.warnings[0]).toMatch(
      "takes 40 s to arrive and be installed, at 7.5 MiB/s, and the log grows by 4.9 MiB/s",
    );
  });

  test("has its warning withdrawn when it has caught up, and is warned about again when it recurs", () => {
    const node = new Leading();
    for (let time = 1; time <= 2; time++) {
      node.writeRate = 20 * MiB;
      node.become({ state: "snapshot" });
      node.begin();
      node.pass(20, 15 * MiB);
      node.end();
      node.pass(1);
      expect(node.monitor.warnings).toHaveLength(1);
      node.become({ state: "replicate" });
      node.pass(1);
      expect(node.monitor.warnings).toEqual([]);
      expect(node.logged).toHaveLength(time);
    }
  });

  test("has its warning withdrawn when a later transfer is quick enough, or this node no longer leads", () => {
    const node = new Leading();
    node.writeRate = 20 * MiB;
    node.begin();
    node.pass(20, 15 * MiB);
    node.end();
    node.begin();
    node.pass(3, 100 * MiB);
    node.end();
    expect(node.monitor.warnings).toEqual([]);
    node.begin();
    node.pass(20, 15 * MiB);
    expect(node.monitor.warnings).toHaveLength(1);
    node.members = [];
    node.transfer = undefined;
    node.pass(1);
    expect(node.monitor.warnings).toEqual([]);
  });

  test("is reported each time its snapshot was outdated at the installation, with the count in a row", () => {
    const node = new Leading();
    const futile = "a snapshot was outdated when it was installed: sending a newer one";
    for (let time = 1; time <= 3; time++) {
      node.begin();
      node.end(51);
      expect(node.logged.filter((text) => text === futile)).toHaveLength(time);
    }
    expect(node.monitor.warnings).toHaveLength(1);
    node.begin();
    node.end(50);
    expect(node.logged.filter((text) => text === futile)).toHaveLength(3);
    expect(node.monitor.warnings).toEqual([]);
  });

  test("is not reported when its transfer failed, or began under another leader", () => {
    const node = new Leading();
    node.begin();
    node.monitor.ended("n2", undefined, 99);
    node.monitor.ended("n2", { index: 50, fileBytes: SNAPSHOT }, 99);
    expect([node.monitor.warnings, node.logged]).toEqual([[], []]);
  });
});

describe("a member that does not answer", () => {
  test("is warned about after a minute if it lacks many entries, until it answers", () => {
    const node = new Leading();
    node.become({ state: "probe", isActive: false, match: 990_001 });
    node.pass(100);
    expect(node.monitor.warnings).toEqual([]);
    node.lastIndex += 1;
    node.pass(1);
    expect(node.monitor.warnings).toEqual(["n2 has not answered for 100 s, and lacks 10000 entries"]);
    node.pass(1);
    expect(node.logged).toEqual(["a member does not answer"]);
    node.become({ isActive: true });
    node.pass(1);
    node.become({ isActive: false });
    node.pass(limits.silentMs / 1_000);
    expect(node.monitor.warnings).toEqual([]);
    node.pass(1);
    expect(node.monitor.warnings).toHaveLength(1);
  });
});

test.each([
  [0, "0 bytes"],
  [1_023, "1023 bytes"],
  [1_024, "1 KiB"],
  [1.25 * 1024 ** 3, "1.3 GiB"],
  [64 * MiB, "64 MiB"],
  [5 * 1024 ** 5, "5120 TiB"],
])("%d bytes are printed as %s", (bytes, text) => {
  expect(sizeText(bytes)).toBe(text);
});
