import type { Permission } from "../../../src/base/permission.js";
import type { MembershipChange } from "../../../src/raft/membership/membership_change.js";
import type { RaftLimits } from "../../../src/raft/raft.js";
import type { Entry, LogPosition, Member, Membership, SnapshotMeta } from "../../../src/raft/types.js";
import { commands as entriesOf } from "../../support/nodes/core.js";
import { Disk } from "../model/disk.js";
import { Arguments, parseCount, parsePosition, parseTerms } from "./arguments.js";
import { ScenarioCluster } from "./cluster.js";
import { isSelected, type Message } from "./network.js";
import type { NodeSettings, ScenarioNode } from "./node.js";
import { entriesText, positionText, progressText, statusText } from "./words.js";

/** One scenario: takes a script's commands (README.md beside this file lists them) and returns the trace of each. */
export class Scenario {
  readonly #cluster = new ScenarioCluster();
  #reads = 0;

  run(line: string): string[] {
    const parts = line.split(" ").filter((part) => part !== "");
    const isQuiet = parts[0] === "quietly";
    const [name, ...rest] = isQuiet ? parts.slice(1) : parts;
    const command = this.#commands[name!];
    if (command === undefined) throw new Error(`there is no command ${name}`);
    const args = new Arguments(rest);
    command(args);
    args.end();
    const trace = this.#cluster.takeTrace();
    return isQuiet ? [] : trace;
  }

  readonly #commands: Readonly<Record<string, (args: Arguments) => void>> = {
    "add-nodes": (args) => this.#addNodes(args),
    stop: (args) => this.#cluster.stop(args.word("node")),
    restart: (args) => this.#cluster.restart(args.word("node"), args.flag("power-failure")),

    campaign: (args) => this.#refusable(args, (node) => node.change((raft) => raft.campaign())),
    propose: (args) => this.#propose(args),
    change: (args) => this.#change(args),
    transfer: (args) => this.#transfer(args),
    read: (args) => this.#read(args),
    tick: (args) => this.#tick(args),
    unreachable: (args) => this.#unreachable(args),
    "distrust-clock": (args) => this.#node(args).change((raft) => raft.distrustClock()),

    ready: (args) => this.#node(args).ready(),
    begin: (args) => this.#node(args).begin(),
    finish: (args) => this.#node(args).finish(),
    "read-disk": (args) => this.#node(args).readDisk(),
    compact: (args) => this.#compact(args),
    "break-transfer": (args) => this.#breakTransfer(args),
    "send-snapshots": (args) => this.#sendSnapshots(args),
    install: (args) => this.#install(args),

    deliver: (args) => this.#cluster.deliver(selection(args)),
    drop: (args) => this.#cluster.drop(selection(args)),
    cut: (args) => this.#cut(args),
    heal: () => this.#cluster.network.heal(),
    stabilize: (args) => this.#cluster.stabilize(this.#all(args)),
    pass: (args) => this.#pass(args),

    status: (args) => this.#show(this.#running(args), (node) => [statusText(node.id, node.raft)]),
    progress: (args) => this.#show([args.word("node")], ({ raft }) => raft.progress.map(progressText)),
    log: (args) => this.#show(this.#running(args), (node) => [logText(node)]),
    "under-way": () => this.#underWay(),
  };

  #node(args: Arguments): ScenarioNode {
    return this.#cluster.node(args.word("node"));
  }

  /** The nodes named; without any, all. */
  #all(args: Arguments): string[] {
    const named = args.rest();
    return named.length > 0 ? named : [...this.#cluster.nodes.keys()];
  }

  /** The nodes named; without any, all that run. */
  #running(args: Arguments): string[] {
    const named = args.rest();
    return named.length > 0
      ? named
      : [...this.#cluster.nodes.values()].filter((each) => each.isRunning).map(({ id }) => id);
  }

  #show(ids: readonly string[], describe: (node: ScenarioNode) => readonly string[]): void {
    for (const id of ids) for (const line of describe(this.#cluster.node(id))) this.#cluster.say(line);
  }

  #refusable(args: Arguments, act: (node: ScenarioNode) => Permission): void {
    const permission = act(this.#node(args));
    if ("refused" in permission) this.#cluster.say(`refused: ${permission.refused}`);
  }

  #addNodes(args: Arguments): void {
    const ids = args.rest();
    const disk = diskOf(args, membersOf(args, ids));
    const settings = settingsOf(args);
    const timeout = args.count("timeout");
    for (const id of ids) {
      const timeoutTicks = timeout ?? settings.electionTicks + this.#cluster.nodes.size;
      this.#cluster.add(id, disk(), { ...settings, timeoutTicks });
    }
  }

  #propose(args: Arguments): void {
    const node = this.#node(args);
    const bytes = args.count("bytes") ?? 0;
    const refusals = node.change((raft) =>
      args.rest().flatMap((text) => {
        const proposal = raft.propose(new TextEncoder().encode(text.padEnd(bytes, "\0")));
        return "refused" in proposal ? [`refused: ${proposal.refused}`] : [];
      }),
    );
    for (const refusal of refusals) this.#cluster.say(refusal);
  }

  #change(args: Arguments): void {
    const node = this.#node(args);
    const type = args.word("change").replace("-", "_") as MembershipChange["type"];
    const change = { type, id: args.word("member"), address: "" } as MembershipChange;
    const proposal = node.change((raft) => raft.changeMembership(change));
    if ("refused" in proposal) this.#cluster.say(`refused: ${proposal.refused}`);
    if ("impossible" in proposal) this.#cluster.say(`refused: ${proposal.impossible}`);
  }

  #transfer(args: Arguments): void {
    const to = args.option("to");
    this.#refusable(args, (node) => node.change((raft) => raft.transferLeadership(to)));
  }

  #read(args: Arguments): void {
    const node = this.#node(args);
    const times = parseCount(args.match(/^\d+$/) ?? "1");
    node.change((raft) => {
      for (let left = times; left > 0; left--) raft.readIndex(++this.#reads);
    });
  }

  #tick(args: Arguments): void {
    const node = this.#node(args);
    for (let left = parseCount(args.match(/^\d+$/) ?? "1"); left > 0; left--) node.change((raft) => raft.tick());
  }

  /** Ticks pass at all nodes that run (or those named), and after each everybody does what there is to do. */
  #pass(args: Arguments): void {
    const ticks = parseCount(args.word("number of ticks"));
    const ids = this.#all(args);
    for (let left = ticks; left > 0; left--) {
      for (const id of ids)
        if (this.#cluster.nodes.get(id)?.isRunning) this.#cluster.node(id).change((raft) => raft.tick());
      this.#cluster.stabilize(ids);
    }
  }

  #unreachable(args: Arguments): void {
    const node = this.#node(args);
    const peer = args.word("peer");
    node.change((raft) => raft.unreachable(peer));
  }

  #compact(args: Arguments): void {
    const node = this.#node(args);
    const at = args.option("at");
    const to = args.count("to");
    const index = to ?? node.disk.applied;
    const position = at === undefined ? { index, term: node.raft.log.termAt(index) ?? 0 } : parsePosition(at);
    node.takeSnapshot(position, to ?? position.index);
  }

  #breakTransfer(args: Arguments): void {
    const node = this.#node(args);
    const to = args.option("to") ?? "";
    node.change((raft) => raft.snapshotSent({ to, term: raft.term }, { kind: "failed" }));
  }

  #sendSnapshots(args: Arguments): void {
    const node = this.#node(args);
    const snapshot = args.option("snapshot");
    node.sendSnapshots(snapshot === undefined ? undefined : this.#snapshotAt(args, node, parsePosition(snapshot)));
  }

  #install(args: Arguments): void {
    const to = args.word("node");
    const from = args.option("from") ?? "";
    const position = parsePosition(args.option("snapshot") ?? "");
    const snapshot = this.#snapshotAt(args, this.#cluster.node(to), position);
    const term = args.count("term") ?? position.term;
    this.#cluster.ask(to, { type: "install_snapshot", from, term, snapshot } as Parameters<ScenarioCluster["ask"]>[1]);
  }

  /** A snapshot of whose membership the script says nothing has the one that `node` has in force there. */
  #snapshotAt(args: Arguments, node: ScenarioNode, position: LogPosition): SnapshotMeta {
    const named = args.list("members");
    const membership = named === undefined ? node.raft.membership : { index: 0, members: votersAndLearners(named, []) };
    return { ...position, membership };
  }

  #cut(args: Arguments): void {
    const names = [...this.#cluster.nodes.keys()];
    const links = args.rest().flatMap((word) => {
      if (word.includes("->")) return [word];
      return names.filter((name) => name !== word).flatMap((name) => [`${word}->${name}`, `${name}->${word}`]);
    });
    this.#cluster.network.cut(links);
  }

  #underWay(): void {
    for (const { from, to, text } of this.#cluster.network.underWay) this.#cluster.say(`${from}->${to} ${text}`);
  }
}

function selection(args: Arguments): (message: Message) => boolean {
  const link = args.match(/->/);
  const kind = args.match(/^[a-z-]+$/);
  const times = parseCount(args.match(/^\d+$/) ?? String(Number.MAX_SAFE_INTEGER));
  let taken = 0;
  return (message) => isSelected(message, { link, kind }) && taken++ < times;
}

function membersOf(args: Arguments, ids: readonly string[]): Membership {
  return votersAndLearners(args.list("voters") ?? ids, args.list("learners") ?? []);
}

function votersAndLearners(voters: readonly string[], learners: readonly string[]): Membership {
  const member = (id: string, role: Member["role"]) => ({ id, address: "", role });
  return [...voters.map((id) => member(id, "voter")), ...learners.map((id) => member(id, "learner"))].sort((a, b) =>
    a.id < b.id ? -1 : 1,
  );
}

/** What the disks of new nodes hold: a snapshot (applied), a log behind it, and a hard state. */
function diskOf(args: Arguments, members: Membership): () => Disk {
  const membership = { index: 0, members };
  const position = args.option("snapshot");
  const snapshot = position === undefined ? undefined : { ...parsePosition(position), membership };
  const terms = parseTermsOr(args.option("log"));
  const commit = args.count("commit") ?? snapshot?.index ?? 0;
  const term = args.count("term") ?? terms.at(-1) ?? snapshot?.term ?? 0;
  const vote = args.option("vote");
  return () => {
    const disk = new Disk(membership);
    if (snapshot !== undefined) {
      disk.publish(snapshot);
      disk.boundary = { index: snapshot.index, term: snapshot.term };
    }
    disk.write({
      entries: entriesOf(disk.boundary.index + 1, terms),
      hardState: { term, vote, commit },
      mustSync: true,
    });
    return disk;
  };
}

function parseTermsOr(text: string | undefined): number[] {
  return text === undefined ? [] : parseTerms(text);
}

const limitNames = {
  "in-flight": "peerAppendsInFlight",
  "bytes-in-flight": "peerBytesInFlight",
  "append-entries": "appendEntries",
  "append-bytes": "appendBatchBytes",
  "window-bytes": "windowBytes",
  "uncommitted-bytes": "uncommittedBytes",
} as const;

function settingsOf(args: Arguments): Omit<NodeSettings, "timeoutTicks"> {
  const limits: { -readonly [Name in keyof RaftLimits]?: number } = {};
  for (const [option, name] of Object.entries(limitNames)) {
    const value = args.count(option);
    if (value !== undefined) limits[name] = value;
  }
  return {
    elections: args.option("elections") === "manual" ? "manual" : "automatic",
    electionTicks: args.count("election-ticks") ?? 10,
    heartbeatTicks: args.count("heartbeat-ticks"),
    reads: args.option("reads") === "lease" ? "lease" : "quorum",
    limits,
  };
}

function logText({ id, raft, disk }: ScenarioNode): string {
  const entries: readonly Entry[] = disk.entries;
  const isWhole = raft.log.persisted === raft.log.last.index;
  const text = entries.length === 0 ? "no entries" : entries.map((entry) => entriesText([entry])).join(", ");
  return `${id}: after ${positionText(disk.boundary)}: ${text}${isWhole ? "" : `; not on disk: up to ${raft.log.last.index}`}`;
}
