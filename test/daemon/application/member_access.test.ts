import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { MachineService } from "../../../gen/cairn/v1/machine_pb.js";
import { openChannel } from "../../../src/rpc/client.js";
import { failure } from "../../support/conditions.js";
import { temporaryDirectory } from "../../support/disk/temporary_directory.js";
import { answer, command } from "../../support/machines/words.js";
import { accessText, as, testCaller } from "../../support/nodes/guarded.js";
import { OwnCluster } from "./own_cluster.js";

const all = testCaller("all", { role: "writer" });
const reads = testCaller("reads", { role: "reader" });
const part = testCaller("part", { role: "writer", prefixes: ["app/"] });
const admin = testCaller("ops", { role: "admin" });
const peer = testCaller("members", { role: "peer" });

test("an application's own machine is behind the access file, but not the application of a member", async () => {
  const access = join(await temporaryDirectory(), "access.json");
  writeFileSync(access, accessText([all, reads, part, admin, peer]));
  const cluster = await OwnCluster.of(["n1", "n2", "n3"], { access, peerToken: peer.token });
  const members = [...cluster.members.values()];
  // Two of the three pass their proposals on to the leader, and ask it for a read index.
  for (const [at, member] of members.entries()) {
    expect(answer((await member.propose(command(`w${at}`))).result)).toBe(`${at + 1}`);
    expect(await member.read(() => "read")).toBe("read");
  }
  for (const { address } of members) {
    const channel = openChannel(address);
    onTestFinished(() => channel.close());
    const machine = channel.client(MachineService);
    const propose = { command: command("x") };
    await failure("UNAUTHENTICATED", machine.propose(propose));
    // The node does not know the keys of such a machine, so a part of them is no answer.
    await failure("PERMISSION_DENIED", machine.propose(propose, as(part)), "part lacks the role writer for all keys");
    await failure("PERMISSION_DENIED", machine.readIndex({}, as(part)), "the role reader for all keys");
    await failure("PERMISSION_DENIED", machine.propose(propose, as(reads)));
    await failure("PERMISSION_DENIED", machine.propose(propose, as(admin)));
    await failure("PERMISSION_DENIED", machine.barrier({}, as(reads)));
    expect((await machine.propose(propose, as(all))).index).toBeGreaterThan(0n);
    expect((await machine.readIndex({}, as(reads))).index).toBeGreaterThan(0n);
  }
});

test("a member with others and an access file needs the token of the members", async () => {
  const access = join(await temporaryDirectory(), "access.json");
  writeFileSync(access, accessText([all, peer]));
  const cluster = await OwnCluster.prepare(["n1", "n2"], { access });
  await failure(
    "INVALID_ARGUMENT",
    cluster.start("n1"),
    "the members could not prove to each other that they are members",
  );
  await failure(
    "INVALID_ARGUMENT",
    cluster.start("n1", { peerToken: all.token }),
    "no caller with the role peer has the token",
  );
});
