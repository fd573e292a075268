import * as grpc from "@grpc/grpc-js";
import { expect, onTestFinished, test } from "vitest";
import { MachineService } from "../../../gen/cairn/v1/machine_pb.js";
import { CairnError } from "../../../src/base/errors.js";
import { MemberCalls } from "../../../src/daemon/application/member_calls.js";
import type { InMemoryMachine } from "../../../src/machine/in_memory_machine.js";
import { serverOptions } from "../../../src/rpc/grpc_options.js";
import { addService, type ServiceImplementation } from "../../../src/rpc/server.js";
import { inMemory } from "../../../src/server/machine/own_machine.js";
import { deferred, failure, isSettled, until } from "../../support/conditions.js";
import { answer, command, Words } from "../../support/machines/words.js";
import { listen } from "../../support/nodes/loopback.js";

// A member that follows a leader which is a script: it fails at the moment that a test wants.

type Script = ServiceImplementation<typeof MachineService>;

class ScriptedLeader {
  private constructor(
    private readonly server: grpc.Server,
    readonly address: string,
  ) {}

  static async start(script: Script): Promise<ScriptedLeader> {
    const server = new grpc.Server(serverOptions);
    addService(server, MachineService, script);
    const leader = new ScriptedLeader(server, await listen(server, "127.0.0.1:0"));
    onTestFinished(() => leader.die());
    return leader;
  }

  /** As if its process had been killed. */
  die(): void {
    this.server.forceShutdown();
  }
}

/** The follower n1, and what its application calls. `follow` says who leads. */
function follower() {
  const state = { address: "", term: 1, over: undefined as CairnError | undefined, asked: 0 };
  const waiters = new Set<() => void>();
  const notLeader = async () => {
    state.asked++;
    throw new CairnError("NOT_LEADER", "n1 is not the leader", { leaderHint: state.address === "" ? undefined : "n2" });
  };
  const words = new Words();
  const node = {
    id: "n1",
    clusterId: "c1",
    get raft() {
      return { membership: { members: [{ id: "n2", address: state.address, role: "voter" }] } };
    },
    machine: { state: words } as unknown as InMemoryMachine<Words>,
    propose: notLeader,
    linearizableRead: notLeader,
    waitApplied: async (index: number) => void words.words.push(`waited for ${index}`),
  };
  const member = {
    node: node as never,
    assertRunning: () => {
      if (state.over !== undefined) throw state.over;
    },
    onceLeaderChanges: (changed: () => void) => {
      waiters.add(changed);
      return () => void waiters.delete(changed);
    },
  };
  const calls = new MemberCalls<Uint8Array, InMemoryMachine<Words>, Words>(
    member,
    inMemory(() => new Words()),
    {},
  );
  onTestFinished(() => calls.close());
  const changed = () => {
    for (const wake of [...waiters]) wake();
  };
  return {
    calls,
    state,
    follow: ({ address }: { readonly address: string }) => {
      state.address = address;
      changed();
    },
    end: () => {
      state.over = new CairnError("STOPPED", "n1 has stopped");
      changed();
    },
    get waiters() {
      return waiters.size;
    },
  };
}

test("a proposal whose leader dies before its answer has an unknown outcome, and is not sent again", async () => {
  const { calls, follow, state } = follower();
  let taken = 0;
  const leader: ScriptedLeader = await ScriptedLeader.start({
    async propose() {
      taken++;
      leader.die();
      return new Promise(() => {});
    },
  });
  follow(leader);
  const error = await failure("OUTCOME_UNKNOWN", calls.propose(command("a"), {}), "broke during");
  expect(error.retryable).toBe(false);
  expect(taken).toBe(1);
  expect(state.asked).toBe(1);
});

test("an idempotent command is proposed again to the next leader", async () => {
  const { calls, follow } = follower();
  const leader: ScriptedLeader = await ScriptedLeader.start({
    async propose() {
      leader.die();
      return new Promise(() => {});
    },
  });
  const next = await ScriptedLeader.start({
    propose: async (request) => ({ index: 7n, result: Buffer.from(`took ${Buffer.from(request.command)}`) }),
  });
  follow(leader);
  const proposed = calls.propose(command("a"), { isIdempotent: true });
  follow(next);
  const { index, result } = await proposed;
  expect([index, answer(result)]).toEqual([7, "took a"]);
});

test("an idempotent command whose outcome is unknown when the time is up reports that", async () => {
  const { calls, follow } = follower();
  let isReplaced = false;
  const leader = await ScriptedLeader.start({
    async propose() {
      if (!isReplaced) return { index: 1n, result: Buffer.from("1") };
      throw new CairnError("OUTCOME_UNKNOWN", "another leader's log took the place of this node's");
    },
  });
  follow(leader);
  // The connection is there: the time that counts is not spent on it.
  await calls.propose(command("a"), {});
  isReplaced = true;
  const settings = { isIdempotent: true, timeoutMs: 1_000 };
  await failure("OUTCOME_UNKNOWN", calls.propose(command("a"), settings), "another leader's log");
});

test("an idempotent command whose first attempt may take effect does not report failure because of a later attempt", async () => {
  const { calls, follow } = follower();
  let attempts = 0;
  const leader = await ScriptedLeader.start({
    async propose() {
      throw ++attempts === 1
        ? new CairnError("OUTCOME_UNKNOWN", "another leader's log took the place of this node's")
        : new CairnError("DISK_FULL", "nothing happened");
    },
  });
  follow(leader);
  await failure("OUTCOME_UNKNOWN", calls.propose(command("a"), { isIdempotent: true }), "another leader's log");
  expect(attempts).toBe(2);
});

test("a proposal to a leader that cannot be reached waits for another leader, because nothing has happened", async () => {
  const { calls, follow, waiters } = follower();
  const gone = await ScriptedLeader.start({});
  gone.die();
  follow(gone);
  const proposed = calls.propose(command("a"), {});
  expect(await isSettled(proposed)).toBe(false);
  follow(await ScriptedLeader.start({ propose: async () => ({ index: 3n, result: Buffer.from("1") }) }));
  expect(await proposed).toEqual({ index: 3, result: Buffer.from("1") });
  expect(waiters).toBe(0);
});

test.each([
  ["NOT_LEADER", 1],
  ["BUSY", 1],
  ["STOPPED", 1],
] as const)("%s from the leader is retried, because nothing has happened", async (code, times) => {
  const { calls, follow } = follower();
  let refused = 0;
  follow(
    await ScriptedLeader.start({
      async propose() {
        if (refused++ < times) throw new CairnError(code, "not now");
        return { index: 3n, result: Buffer.from("1") };
      },
    }),
  );
  expect((await calls.propose(command("a"), {})).index).toBe(3);
  expect(refused).toBe(times + 1);
});

test.each(["DISK_FULL", "LIMIT_EXCEEDED", "INTERNAL", "UNIMPLEMENTED"] as const)(
  "%s from the leader is passed to the caller",
  async (code) => {
    const { calls, follow } = follower();
    follow(
      await ScriptedLeader.start({
        async propose() {
          throw new CairnError(code, "as it is");
        },
      }),
    );
    await failure(code, calls.propose(command("a"), {}), "as it is");
  },
);

test("a proposal to a leader that hangs has an unknown outcome when its caller gives up or its time is up", async () => {
  const { calls, follow } = follower();
  const reached = deferred();
  follow(
    await ScriptedLeader.start({
      async propose() {
        reached.resolve();
        return new Promise(() => {});
      },
    }),
  );
  const caller = new AbortController();
  const proposed = failure("OUTCOME_UNKNOWN", calls.propose(command("a"), { signal: caller.signal }));
  await reached.promise;
  caller.abort();
  await proposed;
  await failure("OUTCOME_UNKNOWN", calls.propose(command("b"), { timeoutMs: 200 }));
});

test("a read does not wait for a leader that hangs when there is another one", async () => {
  const { calls, follow } = follower();
  const reached = deferred();
  const hanging = await ScriptedLeader.start({
    async readIndex() {
      reached.resolve();
      return new Promise(() => {});
    },
  });
  follow(hanging);
  const read = calls.read(({ words }) => words, {});
  await reached.promise;
  expect(await isSettled(read)).toBe(false);
  follow(await ScriptedLeader.start({ readIndex: async () => ({ index: 12n }) }));
  expect(await read).toEqual(["waited for 12"]);
});

test("reads share a call to the leader, but never one that began before them", async () => {
  const { calls, follow } = follower();
  const asked: ((index: bigint) => void)[] = [];
  follow(
    await ScriptedLeader.start({
      readIndex: () =>
        new Promise((resolve) => {
          asked.push((index) => resolve({ index }));
        }),
    }),
  );
  const read = () => calls.read(({ words }) => words.at(-1), {});
  const first = [read(), read(), read()];
  await until(() => asked.length === 1, "the leader is asked");
  const caller = new AbortController();
  const later = [read(), read()];
  const given = failure(
    "CANCELLED",
    calls.read(() => 1, { signal: caller.signal }),
  );
  caller.abort();
  await given;
  asked[0]!(5n);
  expect(await Promise.all(first)).toEqual(["waited for 5", "waited for 5", "waited for 5"]);
  await until(() => asked.length === 2, "the leader is asked again");
  asked[1]!(8n);
  expect(await Promise.all(later)).toEqual(["waited for 8", "waited for 8"]);
  expect(asked).toHaveLength(2);
});

test("a read continues when the leader dies during it", async () => {
  const { calls, follow } = follower();
  const leader: ScriptedLeader = await ScriptedLeader.start({
    async readIndex() {
      leader.die();
      return new Promise(() => {});
    },
  });
  const next = await ScriptedLeader.start({ readIndex: async () => ({ index: 5n }) });
  follow(leader);
  const read = calls.read(({ words }) => words, {});
  follow(next);
  expect(await read).toEqual(["waited for 5"]);
});

test("a member that ends releases its callers, and reports an unknown outcome for commands in flight", async () => {
  const { calls, end, follow } = follower();
  const waiting = failure("STOPPED", calls.propose(command("a"), {}));
  const reading = failure(
    "STOPPED",
    calls.read(() => 1, {}),
  );
  expect(await isSettled(waiting)).toBe(false);
  end();
  await Promise.all([waiting, reading]);

  const other = follower();
  const reached = deferred();
  const leader = await ScriptedLeader.start({
    async propose() {
      reached.resolve();
      return new Promise(() => {});
    },
  });
  other.follow(leader);
  follow(leader);
  const proposed = failure("OUTCOME_UNKNOWN", other.calls.propose(command("a"), { isIdempotent: true }));
  await reached.promise;
  other.end();
  other.calls.close();
  await proposed;
});

test("a command whose result cannot be decoded is reported as having taken effect", async () => {
  const { follow, state } = follower();
  const leader = await ScriptedLeader.start({ propose: async () => ({ index: 4n, result: Buffer.from("?") }) });
  follow(leader);
  const machine = {
    ...inMemory(() => new Words()),
    decodeResult: () => {
      throw new SyntaxError("no result of mine");
    },
  };
  const node = {
    id: "n1",
    clusterId: "c1",
    raft: { membership: { members: [{ id: "n2", address: state.address, role: "voter" }] } },
    propose: async () => {
      throw new CairnError("NOT_LEADER", "n1 is not the leader", { leaderHint: "n2" });
    },
  };
  const member = { node: node as never, assertRunning: () => {}, onceLeaderChanges: () => () => {} };
  const calls = new MemberCalls<Uint8Array, InMemoryMachine<Words>, Words>(member, machine, {});
  onTestFinished(() => calls.close());
  await failure("INTERNAL", calls.propose(command("a"), {}), "index 4 has taken effect");
});
