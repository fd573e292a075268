import { expect, test } from "vitest";
import { CairnError } from "../../src/base/errors.js";
import { peerLog } from "../../src/daemon/peer_log.js";
import { silentLogger } from "../../src/system/logger.js";

test("a peer that is lost and answers again is logged once for each reason, and again after a minute", () => {
  const said: string[] = [];
  let now = 0;
  const log = peerLog(
    {
      ...silentLogger,
      warn: (facts) => void said.push(`lost ${(facts as { peer: string }).peer}`),
      info: (facts) => void said.push(`again ${(facts as { peer: string }).peer}`),
    },
    () => now,
  );
  const n2 = { id: "n2", address: "n2:1" };
  const full = new CairnError("DISK_FULL", "the disk is full");
  for (now = 0; now < 59_000; now += 350) {
    log(n2, full);
    log(n2, undefined);
  }
  expect(said).toEqual(["lost n2", "again n2"]);
  log(n2, new CairnError("UNREACHABLE", "nobody there"));
  log({ id: "n3", address: "n3:1" }, full);
  expect(said.splice(0)).toEqual(["lost n2", "again n2", "lost n2", "lost n3"]);
  now = 130_000;
  log(n2, full);
  log(n2, undefined);
  log(n2, undefined);
  expect(said).toEqual(["lost n2", "again n2"]);
});
