import { expect, test } from "vitest";
import { arrive, type JoinAnswer, type Surroundings } from "../../src/daemon/arrival.js";
import type {
  Introduced,
  Introduction,
  NamedAddress,
  OwnFacts,
  Standing,
  Turn,
} from "../../src/raft/membership/introduction.js";
import type { Membership } from "../../src/raft/types.js";

const founders = ["n1", "n2", "n3"].map((name) => ({ name, address: `${name}:1` }));

/** The others, as a script has them; and all that the new node n1 did. */
class Script implements Surroundings {
  readonly did: string[] = [];
  readonly pauses: number[] = [];
  own: OwnFacts | undefined = {
    name: "n1",
    incarnation: "inc-n1",
    clusterId: "inc-n1",
    founders,
    base: undefined,
    refusesReturn: false,
    hasTerm: false,
  };
  readonly stopping = new AbortController();
  /** Rounds of pauses after which it is stopped. */
  patience = 20;

  constructor(
    private readonly answer: (name: string, asked: Introduction, round: number) => Standing | undefined,
    private readonly joins: JoinAnswer[] = [],
  ) {}

  facts() {
    return this.own;
  }

  contacts() {
    return founders.slice(1);
  }

  async ask({ name }: { name: string | undefined }, asked: Introduction): Promise<Introduced | undefined> {
    const standing = this.answer(name!, asked, this.pauses.length);
    if (standing === undefined) return undefined;
    return { name: name!, incarnation: `inc-${name}`, founders, base: undefined, standing };
  }

  async join({ name }: NamedAddress): Promise<JoinAnswer> {
    this.did.push(`join by ${name}`);
    const answer = this.joins.shift() ?? { kind: "later", reason: "busy" };
    if (answer.kind === "joined") this.own = undefined;
    return answer;
  }

  async turn({ clusterId, isRenewed }: Turn): Promise<void> {
    this.did.push(`turn to ${clusterId === "" ? "its own" : clusterId}`);
    this.own = { ...this.own!, clusterId, incarnation: isRenewed ? "inc-n1b" : this.own!.incarnation };
  }

  async found(members: Membership): Promise<void> {
    this.did.push(`found ${members.map(({ id, incarnation }) => `${id}/${incarnation}`).join(" ")}`);
    this.own = undefined;
  }

  waits(reason: string): void {
    if (this.did.at(-1) !== reason) this.did.push(reason);
  }

  async pause(ms: number): Promise<void> {
    this.pauses.push(ms);
    if (this.pauses.length >= this.patience) this.stopping.abort();
  }

  run() {
    return arrive(this, this.stopping.signal);
  }
}

const isNew: Standing = { kind: "new", promised: false };
const promised: Standing = { kind: "new", promised: true };
const member: Standing = {
  kind: "member",
  clusterId: "c9",
  membership: [],
  membershipIndex: 2,
  leader: { name: "n3", address: "n3:1" },
};

test("a founder asks all other founders twice, and founds when all have promised (T1)", async () => {
  const script = new Script((_name, { askPromise }) => (askPromise ? promised : isNew));
  expect(await script.run()).toBeUndefined();
  expect(script.did).toEqual(["found n1/inc-n1 n2/inc-n2 n3/inc-n3"]);
});

test("a founder asks for no promise while any other founder is silent, for however long, and names the silent ones (T1)", async () => {
  const asked: boolean[] = [];
  const script = new Script((name, { askPromise }) => {
    asked.push(askPromise);
    return name === "n3" ? undefined : isNew;
  });
  await script.run();
  expect(asked.some((each) => each)).toBe(false);
  expect(script.did).toEqual(["n1 is new; to found the cluster it must hear from n3 (no answer)"]);
});

test("an answer that is missing in the second round makes the founder start over with the first (T1)", async () => {
  const rounds: string[] = [];
  const script = new Script((name, { askPromise }, round) => {
    if (name === "n3") rounds.push(askPromise ? "promise" : "plain");
    if (!askPromise) return isNew;
    return name === "n3" && round === 0 ? undefined : promised;
  });
  await script.run();
  expect(rounds).toEqual(["plain", "promise", "plain", "promise"]);
  expect(script.did.at(-1)).toContain("found");
});

test("a founder names its cluster when it asks, and a node that founds nothing names none (T1)", async () => {
  const named: string[] = [];
  const look = (own: Partial<OwnFacts>) => {
    const script = new Script((_name, { founder }) => {
      named.push(founder);
      return undefined;
    });
    script.own = { ...script.own!, ...own };
    script.patience = 1;
    return script.run();
  };
  await look({});
  await look({ clusterId: "c9" });
  await look({ clusterId: "", name: "n2" });
  expect(named).toEqual(["inc-n1", "inc-n1", "", "", "", ""]);
});

test("a new node that finds a cluster turns to it, and asks its leader to add it until it is a member (T2)", async () => {
  const script = new Script(() => member, [{ kind: "later", reason: "busy" }, { kind: "joined" }]);
  expect(await script.run()).toBeUndefined();
  expect(script.did).toEqual(["turn to c9", "join by n3", "busy", "join by n3"]);
});

test("a new node that must not join is told so, and stops asking (T1)", async () => {
  const script = new Script(() => member, [{ kind: "refused", reason: "n1 was removed" }]);
  expect(await script.run()).toEqual({ refused: "n1 was removed" });
  const known: Standing = { ...member, membership: [{ id: "n1", address: "", role: "voter", incarnation: "former" }] };
  const careful = new Script(() => known);
  careful.own = { ...careful.own!, refusesReturn: true };
  expect(await careful.run()).toEqual({ refused: expect.stringContaining("knows n1 from before") });
});

test("a new node asks again after pauses that grow to a bound, and ends when it is stopped or no longer new", async () => {
  const waiting = new Script(() => undefined);
  waiting.patience = 8;
  await waiting.run();
  expect(waiting.pauses).toEqual([200, 400, 800, 1_000, 1_000, 1_000, 1_000, 1_000]);
  const over = new Script(() => undefined);
  over.own = undefined;
  expect(await over.run()).toBeUndefined();
  expect(over.did).toEqual([]);
});
