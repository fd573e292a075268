import type { Patch } from "../run/bundle.mjs";
import { plantedStoreBugs } from "./planted_store_bugs.js";

/** A bug, put in on purpose. */
export interface PlantedBug {
  /** What is wrong then. A seed that finds it stands under this name in planted_seeds.json. */
  readonly name: string;
  /** The rule that is broken. */
  readonly rule: string;
  readonly patches: readonly Patch[];
  /** How the nodes come to their identity. Default: it is given. */
  readonly identities?: "drawn";
  /** Where the nodes keep their state. Default: in memory. */
  readonly state?: "store";
  /**
   * Less than one seed in fifty meets the situation. The test tries the kept seed only, and is
   * skipped when a change has made it stale, until `npm run plant` has found another one.
   */
  readonly isRare?: true;
}

/** Bugs that the simulator must find. Each breaks one rule and leaves everything else as it is. */
export const plantedBugs: readonly PlantedBug[] = [
  {
    name: "a vote is answered before it is durable",
    rule: "Raft figure 2: persistent state is updated before responding",
    patches: [
      {
        file: "src/raft/state.ts",
        find: "const isDurable = this.#durable.term === this.#term && this.#durable.vote === this.#vote;",
        replace: "const isDurable = true;",
      },
    ],
  },
  {
    name: "entries are acknowledged before they are durable",
    rule: "Raft figure 2: persistent state is updated before responding",
    patches: [
      {
        file: "src/raft/state.ts",
        find: "promised === undefined || (this.unwrittenSnapshot === undefined && promised <= this.log.persisted);",
        replace: "true;",
      },
    ],
  },
  {
    name: "a vote is written, but not synced",
    rule: "Ready.mustSync",
    patches: [
      {
        file: "src/raft/ready_stage.ts",
        find: "mustSync: termChanged || voteChanged || entries.length > 0",
        replace: "mustSync: entries.length > 0",
      },
    ],
  },
  {
    name: "a vote is given to a candidate whose log is behind",
    rule: "Raft section 5.4.1",
    patches: [
      {
        file: "src/raft/election.ts",
        find: "  return isUpToDate(message.last, state.log.last);\n}",
        replace: "  return true;\n}",
      },
    ],
  },
  {
    name: "two votes in one term",
    rule: "Raft section 5.2",
    patches: [
      {
        file: "src/raft/election.ts",
        find: "  if (state.vote !== undefined && state.vote !== message.from) return false;\n",
        replace: "",
      },
      {
        file: "src/raft/state.ts",
        find: '    assert(this.#vote === undefined || this.#vote === candidate, "one vote a term", { vote: this.#vote, candidate });\n',
        replace: "",
      },
    ],
  },
  {
    name: "the vote is kept when the term changes",
    rule: "Raft section 5.2: one vote for each term",
    patches: [
      {
        file: "src/raft/state.ts",
        find: "      this.#term = term;\n      this.#vote = undefined;\n",
        replace: "      this.#term = term;\n",
      },
    ],
  },
  {
    name: "an entry of an older term is committed by counting",
    rule: "Raft section 5.4.2, figure 8",
    patches: [
      {
        file: "src/raft/leader/leader.ts",
        find: "reached <= state.log.commit || state.log.termAt(reached) !== state.term",
        replace: "reached <= state.log.commit",
      },
    ],
  },
  {
    name: "the leader counts entries of its own that are not durable",
    rule: "thesis section 10.2.1",
    patches: [
      {
        file: "src/raft/leader/leader.ts",
        find: "const reached = this.#ofMajority(state.log.persisted,",
        replace: "const reached = this.#ofMajority(state.log.last.index,",
      },
    ],
  },
  {
    name: "a learner counts towards the majority",
    rule: "thesis section 4.2.1",
    patches: [
      {
        file: "src/raft/membership/membership.ts",
        find: 'members.filter((member) => member.role === "voter").map(memberKey)',
        replace: "members.map(memberKey)",
      },
    ],
  },
  {
    name: "a follower commits entries that the leader did not vouch for",
    rule: "Raft figure 2: commitIndex = min(leaderCommit, index of last new entry)",
    patches: [
      {
        file: "src/raft/follower.ts",
        find: "log.commitTo(Math.min(message.leaderCommit, last.index));",
        replace: "log.commitTo(Math.min(message.leaderCommit, log.last.index));",
      },
    ],
  },
  {
    name: "entries that conflict with the leader's stay",
    rule: "Raft section 5.3",
    patches: [
      {
        file: "src/raft/follower.ts",
        find: "entries.findIndex((entry) => log.termAt(entry.index) !== entry.term)",
        replace: "entries.findIndex((entry) => log.termAt(entry.index) === undefined)",
      },
    ],
  },
  {
    name: "no term check right before the entries",
    rule: "Raft section 5.3: the consistency check",
    patches: [
      {
        file: "src/raft/follower.ts",
        find: "if (prevTerm !== prev.term) return { refusal",
        replace: "if (prevTerm === undefined) return { refusal",
      },
    ],
  },
  {
    name: "the term at the boundary is forgotten",
    rule: "R2 and R6",
    patches: [
      {
        file: "src/raft/term_ranges.ts",
        find: "this.#ranges = [{ firstIndex: index, term: this.#ranges[at]!.term },",
        replace: "this.#ranges = [{ firstIndex: index, term: 1 },",
      },
    ],
  },
  {
    name: "the suffix behind a conflicting snapshot stays",
    rule: "R4",
    isRare: true,
    patches: [
      {
        file: "src/raft/log.ts",
        find: "if (this.termAt(snapshot.index) === snapshot.term) {",
        replace: "if (this.termAt(snapshot.index) !== undefined) {",
      },
      {
        file: "src/node/ready_loop.ts",
        find: "keepsEntries && log.termAt(meta.index) === meta.term ? log.trim(meta.index)",
        replace: "log.termAt(meta.index) !== undefined ? log.trim(meta.index)",
      },
    ],
  },
  {
    name: "a snapshot at or below the commit index is installed",
    rule: "R3",
    patches: [
      {
        file: "src/raft/follower.ts",
        find: "if (snapshot.index <= log.commit) {",
        replace: "if (snapshot.index <= 0) {",
      },
      {
        file: "src/node/snapshots/receiver.ts",
        find: "if (offer.index <= log.commit) {",
        replace: "if (offer.index <= 0) {",
      },
    ],
  },
  {
    name: "entries are handed out to be applied while a snapshot is loaded",
    rule: "R13: nothing is applied before the snapshot",
    patches: [
      {
        file: "src/raft/ready_stage.ts",
        find: "committed: pendingSnapshot !== undefined || termChanged || this.#holdsCommitted ? [] : log.takeUnapplied(),",
        replace:
          "committed: unwrittenSnapshot !== undefined || termChanged || this.#holdsCommitted ? [] : log.takeUnapplied(),",
      },
      {
        file: "src/raft/ready_stage.ts",
        find: "(log.hasUnapplied && this.#state.pendingSnapshot === undefined && !this.#holdsCommitted) ||",
        replace: "(log.hasUnapplied && !this.#holdsCommitted) ||",
      },
    ],
  },
  {
    name: "a node campaigns while it loads a snapshot",
    rule: "R13",
    isRare: true,
    patches: [
      {
        file: "src/raft/election.ts",
        find: "if (state.pendingSnapshot !== undefined) {",
        replace: "if (state.pendingSnapshot !== undefined && state.unwrittenSnapshot !== undefined) {",
      },
    ],
  },
  {
    name: "what was committed while a snapshot was loaded, and is not in memory any more, is passed over",
    rule: "each committed entry is applied once",
    patches: [
      {
        file: "src/node/ready_loop.ts",
        find: "if (next > last) return;",
        replace: "return;",
      },
      {
        file: "src/raft/log.ts",
        find: "    this.appliedTo(index);\n    this.#assert",
        replace: "    this.appliedTo(Math.max(index, this.firstInMemory - 1));\n    this.#assert",
      },
    ],
  },
  {
    name: "an entry is applied again after a snapshot was installed",
    rule: "each committed entry is applied once",
    patches: [
      { file: "src/raft/log.ts", find: "    this.#applying = snapshot.index;\n", replace: "" },
      {
        file: "src/raft/log.ts",
        find: "    this.#applied = index;\n    this.#applying = Math.max(this.#applying, index);\n",
        replace: "    this.#applied = index;\n",
      },
    ],
  },
  {
    name: "entries are applied before they are committed",
    rule: "Raft section 5.3",
    patches: [
      {
        file: "src/raft/log.ts",
        find: "const end = Math.min(this.#commit, this.#persisted, this.#applying",
        replace: "const end = Math.min(this.#persisted, this.#applying",
      },
    ],
  },
  {
    name: "the log is trimmed before the snapshot is durable",
    rule: "R8",
    patches: [
      {
        file: "src/node/snapshots/compaction.ts",
        find: "    const info = await this.#unlessStopped(this.#write(request.index));\n",
        replace:
          "    await this.storage.log.trim(index);\n    const info = await this.#unlessStopped(this.#write(request.index));\n",
      },
    ],
  },
  {
    name: "a snapshot is published without its name being durable",
    rule: "R8: renamed, directory synced, and only then published",
    patches: [
      {
        file: "src/storage/snapshots/snapshot_store.ts",
        find: "      await this.#fs.syncDirectory(this.#directory);\n      // Looked up only now",
        replace: "      // Looked up only now",
      },
    ],
  },
  {
    name: "a snapshot is labelled with the committed index instead of the applied one",
    rule: "etcd#13973",
    patches: [
      {
        file: "src/node/snapshots/compaction.ts",
        find: "const meta = this.#metaAt(view.appliedIndex);",
        replace: "const meta = this.#metaAt(this.host.raft.log.commit);",
      },
    ],
  },
  {
    name: "the membership in a snapshot gets the snapshot's index",
    rule: "dragonboat#414",
    patches: [
      {
        file: "src/node/snapshots/compaction.ts",
        find: "return { index, term, membership: this.host.raft.membershipAt(index) };",
        replace: "return { index, term, membership: { ...this.host.raft.membershipAt(index), index } };",
      },
    ],
  },
  {
    name: "a snapshot holds the latest membership instead of the one at its index",
    rule: "R10",
    patches: [
      {
        file: "src/node/snapshots/compaction.ts",
        find: "return { index, term, membership: this.host.raft.membershipAt(index) };",
        replace: "return { index, term, membership: this.host.raft.membership };",
      },
    ],
  },
  {
    name: "sessions are left out of snapshots",
    rule: "thesis section 6.3",
    patches: [
      {
        file: "src/machine/kv/memory_machine.ts",
        find: "sessions: () => sessions };",
        replace: "sessions: () => [] };",
      },
    ],
  },
  {
    name: "a retry is carried out again",
    rule: "thesis section 6.3",
    patches: [
      {
        file: "src/machine/kv/sessions.ts",
        find: "if (holds(session.sequences, sequence)) return",
        replace: "if (sequence === 0) return",
      },
    ],
  },
  {
    name: "a forgotten client's late retry is carried out",
    rule: "T6: the horizon rises with each session that is forgotten",
    patches: [{ file: "src/machine/kv/sessions.ts", find: "      this.#horizon = session.lastUsed;\n", replace: "" }],
  },
  {
    name: "the client that came first is forgotten first, however busy it is",
    rule: "T6: sessions are forgotten in the order of their last use",
    patches: [
      {
        file: "src/machine/kv/sessions.ts",
        find: "    this.#sessions.delete(clientId);\n    this.#sessions.set(",
        replace: "    this.#sessions.set(",
      },
    ],
  },
  {
    name: "a snapshot does not say which clients are forgotten",
    rule: "T6: the horizon is part of the state",
    patches: [
      {
        file: "src/machine/kv/memory_machine.ts",
        find: "sessionsHead: this.sessionsHead, sessions: () => sessions };",
        replace: "sessionsHead: { ...this.sessionsHead, horizon: 0 }, sessions: () => sessions };",
      },
    ],
  },
  {
    name: "bytes of answers that are forgotten still count",
    rule: "T6: the limit of bytes is of what is remembered",
    patches: [
      {
        file: "src/machine/kv/sessions.ts",
        find: "for (const size of session.sizes.splice(0, forgotten.length)) this.#bytes -= answerBytes(size);",
        replace: "session.sizes.splice(0, forgotten.length);",
      },
    ],
  },
  {
    name: "long values are remembered",
    rule: "T6: an answer is bounded in bytes",
    patches: [
      {
        file: "src/machine/kv/sessions.ts",
        find: "const answer = encodeResult(this.#shortened(result));",
        replace: "const answer = encodeResult(result);",
      },
    ],
  },
  {
    name: "reads are answered without asking a majority",
    rule: "thesis section 6.4",
    patches: [
      {
        file: "src/raft/leader/leader.ts",
        find: "if (index !== undefined && this.#hasLease) {",
        replace: "if (index !== undefined) {",
      },
      // Else a deposed leader is found out too soon to show it.
      {
        file: "src/raft/leader/leader.ts",
        find: "    if (isHeard) return true;",
        replace: "    if (isHeard || !isHeard) return true;",
      },
    ],
  },
  {
    name: "a follower answers a read before its state has applied the read index",
    rule: "thesis section 6.4: a read waits for the state",
    patches: [
      { file: "src/node/requests/follower_reads.ts", find: "      await node.waitApplied(index);\n", replace: "" },
    ],
  },
  {
    name: "a follower answers reads by the read index of an earlier question",
    rule: "thesis section 6.4: a read index is asked for after the read has come",
    patches: [
      {
        file: "src/node/requests/follower_reads.ts",
        find: "const index = await this.ask(leader);",
        replace: "const index = (this.index ??= await this.ask(leader));",
      },
    ],
  },
  {
    name: "reads are answered before the leader knows what is committed",
    rule: "Raft section 8",
    isRare: true,
    patches: [
      {
        file: "src/raft/leader/leader.ts",
        find: "const index = this.isEstablished ? log.commit : undefined;",
        replace: "const index = log.commit;",
      },
      {
        file: "src/raft/leader/leader.ts",
        find: "if (reads.wantedRound === undefined || !this.isEstablished) return;",
        replace: "if (reads.wantedRound === undefined) return;",
      },
    ],
  },
  {
    name: "a lease outlasts the followers' promise",
    rule: "thesis section 6.4.1",
    patches: [
      {
        file: "src/raft/timing.ts",
        find: "return Math.floor((this.electionTicks - 1) * 0.9);",
        replace: "return this.electionTicks * 6;",
      },
      {
        file: "src/raft/leader/leader.ts",
        find: "    if (isHeard) return true;",
        replace: "    if (isHeard || !isHeard) return true;",
      },
    ],
  },
  {
    name: "a snapshot that could not be sent is never sent again",
    rule: "a follower is never stuck in the state snapshot",
    isRare: true,
    patches: [{ file: "src/raft/leader/leader.ts", find: "    replication.tick();\n", replace: "" }],
  },
  {
    name: "a leader whose disk is stuck leads on",
    rule: "T8",
    patches: [
      {
        file: "src/raft/leader/resignation.ts",
        find: 'return disk === "stuck" && timing.isAutomatic && log.commit > log.persisted;',
        replace: 'return disk === "stuck" && !timing.isAutomatic && log.commit > log.persisted;',
      },
    ],
  },
  {
    name: "a write counts only when it has ended",
    rule: "T8: a disk that hangs ends nothing",
    patches: [
      {
        file: "src/node/health/write_watch.ts",
        find: 'if ((this.#underWay(now) ?? 0) >= this.electionMs) return "stuck";',
        replace: 'if (this.#lastMs >= this.electionMs) return "stuck";',
      },
    ],
  },
  {
    name: "a handover waits for the leader's own disk, and the leader for the handover",
    rule: "T8",
    patches: [
      {
        file: "src/raft/leader/leadership_transfer.ts",
        find: 'state.send({ type: "timeout_now", from: state.id, to: current.target, term: state.term });',
        replace:
          'state.send({ type: "timeout_now", from: state.id, to: current.target, term: state.term }, state.log.last.index);',
      },
      { file: "src/raft/leader/resignation.ts", find: "return this.#ticksLeft <= 0;", replace: "return false;" },
    ],
  },
  {
    name: "a node does not say that its disk is stuck",
    rule: "T8",
    patches: [
      { file: "src/node/health/health.ts", find: "if (underWayMs >= electionMs) {", replace: "if (underWayMs < 0) {" },
    ],
  },
  {
    name: "what the others have made durable is applied before it is in this node's log",
    rule: "a state is recovered from a log that reaches as far",
    patches: [
      {
        file: "src/raft/log.ts",
        find: "return this.#applying < Math.min(this.#commit, this.#persisted);",
        replace: "return this.#applying < this.#commit;",
      },
      {
        file: "src/raft/log.ts",
        find: "const end = Math.min(this.#commit, this.#persisted, this.#applying",
        replace: "const end = Math.min(this.#commit, this.#applying",
      },
    ],
  },
  {
    name: "the log is not synced",
    rule: "R8: what is acknowledged is durable",
    patches: [{ file: "src/storage/wal/wal.ts", find: "    if (sync) await segment.sync();\n", replace: "" }],
  },
  {
    name: "what a quick disk has written directly counts as durable",
    rule: "Raft section 5",
    patches: [
      {
        file: "src/storage/wal/wal.ts",
        find: "    if (sync) await segment.sync();\n",
        replace: "    if (sync && !this.isDirect) await segment.sync();\n",
      },
    ],
  },
  {
    name: "a second leader in one term is followed",
    rule: "T5, Raft section 5.2",
    patches: [
      {
        file: "src/raft/admission.ts",
        find: "if (termLeader === undefined || termLeader === from) return undefined;",
        replace: "if (termLeader !== state.id) return undefined;",
      },
    ],
  },
  {
    name: "a message from oneself is taken",
    rule: "T5",
    patches: [
      { file: "src/raft/admission.ts", find: "if (from === state.id) return", replace: "if (from === '') return" },
    ],
  },
  {
    name: "a configuration may change any number of members",
    rule: "T5, thesis section 4.1",
    patches: [
      {
        file: "src/raft/follower.ts",
        find: "const problem = changeProblem(before, after);",
        replace: "const problem = changeProblem([], after);",
      },
    ],
  },
  {
    name: "a term that is far ahead is taken whole",
    rule: "T6",
    patches: [
      {
        file: "src/raft/admission.ts",
        find: "return !state.timing.isAutomatic || term <= state.term + limits.termJump;",
        replace: "return term > 0;",
      },
    ],
  },
  {
    name: "a term that is far ahead moves a node that hears from a leader",
    rule: "T6: while a leader is heard, far terms are ignored",
    patches: [
      {
        file: "src/raft/admission.ts",
        find: "if (isNear(state, term) || !state.hearsLeader) return undefined;",
        replace: "return undefined;",
      },
    ],
  },
  {
    name: "a stranger is listened to",
    rule: "T10: requests are those of voters",
    patches: [
      {
        file: "src/raft/admission.ts",
        find: 'if (type === "timeout_now" || membershipIndex <= known) return { kind: "stranger", detail: unknown };',
        replace: "if (membershipIndex <= known) return undefined;",
      },
    ],
  },
  {
    name: "a stranger is listened to because it names a later membership",
    rule: "T10: nobody that a node does not know is listened to while a leader is heard",
    patches: [
      {
        file: "src/raft/admission.ts",
        find: "if (state.isForsaken) return undefined;",
        replace: "if (membershipIndex > known) return undefined;",
      },
    ],
  },
  {
    name: "counters have no bound",
    rule: "T6",
    patches: [
      {
        file: "src/base/counters.ts",
        find: "if (isWhole && value >= least && value <= limits[limit]) return undefined;",
        replace: "if (isWhole && value >= least) return undefined;",
      },
    ],
  },
  {
    name: "the payload of a received snapshot is not looked at before the log is given up for it",
    rule: "T5",
    patches: [
      {
        file: "src/storage/snapshots/receiver.ts",
        find: "this.#payload ??= this.#target.checkPayload?.(meta);",
        replace: "void meta;",
      },
    ],
  },
  {
    name: "a snapshot without voters is taken",
    rule: "T5",
    patches: [
      {
        file: "src/raft/membership/membership_rules.ts",
        find: 'if (members.some(({ role }) => role === "voter")) return undefined;',
        replace: "if (members.length >= 0) return undefined;",
      },
    ],
  },
  {
    name: "a majority of the founders founds a cluster",
    rule: "T1: all founders have promised",
    identities: "drawn",
    patches: [
      {
        file: "src/raft/membership/introduction.ts",
        find: "if (!haveAllAnswered) return waitFor(",
        replace: "if (given.length < Math.floor((answers.size + 1) / 2)) return waitFor(",
      },
    ],
  },
  {
    name: "what was meant for a lost directory reaches the one that took its name",
    rule: "T1: the directory is the member, its name a label",
    identities: "drawn",
    patches: [
      {
        file: "src/raft/membership/recipient.ts",
        find: "if (meant.incarnation !== own.incarnation) {",
        replace: "if (meant.incarnation === undefined) {",
      },
    ],
  },
  {
    name: "what was meant for another cluster is taken",
    rule: "T2: a cluster's id is in every message",
    identities: "drawn",
    patches: [
      {
        file: "src/raft/membership/recipient.ts",
        find: "if (meant.clusterId !== own.clusterId)",
        replace: "if (meant.clusterId === undefined)",
      },
      {
        file: "src/raft/membership/recipient.ts",
        find: "if (meant.incarnation !== own.incarnation) {",
        replace: "if (meant.incarnation === undefined) {",
      },
    ],
  },
  {
    name: "a founder is promised what is not kept",
    rule: "T1: a new directory turns to the founder's cluster, then answers",
    identities: "drawn",
    patches: [
      {
        file: "src/raft/membership/introduction.ts",
        find: 'return { kind: "turn", turn: turnTo(own, founder, base) };',
        replace: 'return { kind: "answer", promised: true };',
      },
    ],
  },
  {
    name: "a promise goes to a founder that was not the last to ask",
    rule: "T1: one founder gets the promises",
    identities: "drawn",
    patches: [
      {
        file: "src/raft/membership/introduction.ts",
        find: 'founder === "" || founder !== lastFounder || !fits',
        replace: 'founder === "" || !fits',
      },
    ],
  },
  {
    name: "a new directory believes the list of the founders",
    rule: "T1: there is no membership at index 0",
    identities: "drawn",
    patches: [
      {
        file: "src/node/open/recovery.ts",
        find: 'members: cameBy === "given" ? members : [] };',
        replace: "members };",
      },
    ],
  },
  {
    name: "a new directory has the progress of the lost one that had its name",
    rule: "T1: progress goes by incarnation",
    identities: "drawn",
    patches: [
      {
        file: "src/raft/leader/replication.ts",
        find: 'import { memberKey } from "../../base/ids.js";',
        replace: 'import { memberKey, nameOf } from "../../base/ids.js";',
      },
      {
        file: "src/raft/leader/replication.ts",
        find: "this.#progress.set(key, new Progress(key, inflight, state.log.last.index + 1));",
        replace: `const former = [...this.#progress.values()].find((each) => nameOf(each.id) === nameOf(key));
      const made = new Progress(key, inflight, state.log.last.index + 1);
      if (former !== undefined) made.matched(former.match);
      this.#progress.set(key, made);`,
      },
    ],
  },
  {
    name: "a directory that turns keeps its incarnation",
    rule: "T2: whoever may have voted is another one in another cluster",
    identities: "drawn",
    patches: [
      {
        file: "src/daemon/claim.ts",
        find: "turn.isRenewed ? drawIncarnation() : found!.incarnation",
        replace: "found!.incarnation",
      },
    ],
  },
  {
    name: "a directory takes the place of one that answers",
    rule: "T1: two nodes under one name",
    identities: "drawn",
    patches: [
      {
        file: "src/raft/membership/membership_change.ts",
        find: "if (facts.answers(memberKey(former))) {",
        replace: "if (facts.answers(former.address)) {",
      },
    ],
  },
  {
    name: "a member that has less than it acknowledged goes on",
    rule: "T3: it neither votes nor acknowledges",
    identities: "drawn",
    patches: [
      {
        file: "src/raft/follower.ts",
        find: "if (has < acknowledged) state.lost ??= { acknowledged, has };",
        replace: "",
      },
      {
        file: "src/raft/leader/replication.ts",
        find: "if (this.#hasLost(progress, answer)) return;",
        replace: "",
      },
    ],
  },
  {
    name: "a leader of the past says that a candidate has acknowledged more than it has",
    rule: "T3: a healthy node is never taken for lost",
    identities: "drawn",
    patches: [
      {
        file: "src/raft/election.ts",
        find: "const acknowledged = state.acknowledged.get(from) ?? 0;",
        replace: "const acknowledged = (state.acknowledged.get(from) ?? 0) + 1;",
      },
    ],
  },
  {
    name: "a leader takes a member that lags behind for one that has lost data",
    rule: "T3: a healthy node is never taken for lost",
    identities: "drawn",
    patches: [
      {
        file: "src/raft/leader/replication.ts",
        find: "acknowledged: Math.max(progress.match, state.acknowledged.get(progress.id) ?? 0),",
        replace: "acknowledged: Math.max(progress.next - 1, state.acknowledged.get(progress.id) ?? 0),",
      },
    ],
  },
  {
    name: "a node that has lost data does not come back",
    rule: "T3: it comes back as a new incarnation",
    identities: "drawn",
    patches: [{ file: "src/node/health/alarms.ts", find: "() => onLost?.(lost),", replace: "() => {}," }],
  },
  {
    name: "the mark of a log's end outlives the log",
    rule: "T3: a healthy node is never taken for lost",
    identities: "drawn",
    patches: [{ file: "src/storage/data_dir.ts", find: "of [...DATA, STOP_MARK].filter", replace: "of DATA.filter" }],
  },
  {
    name: "a learner gets its vote before it has caught up",
    rule: "T4: the leader promotes who has caught up",
    identities: "drawn",
    patches: [
      {
        file: "src/raft/leader/leader.ts",
        find: 'return state.kind === "replicate" && match >= index && ackedRound >= round;',
        replace: "return true;",
      },
    ],
  },
  {
    name: "whoever comes back never votes again",
    rule: "T4: the intention lives in the membership",
    identities: "drawn",
    patches: [
      {
        file: "src/raft/membership/membership_change.ts",
        find: 'const wantsVote = former.role === "voter" || former.wantsVote === true;',
        replace: "const wantsVote = former.wantsVote === true;",
      },
    ],
  },
  {
    name: "the leader makes nobody a voter",
    rule: "T4: the leader promotes",
    identities: "drawn",
    patches: [{ file: "src/raft/leader/leader.ts", find: "    this.#promoteNext();\n", replace: "" }],
  },
  {
    name: "a transaction changes keys although a comparison does not hold",
    rule: "TxnRequest: all comparisons hold, or the other list is carried out",
    patches: [
      {
        file: "src/machine/kv/txn/transaction.ts",
        find: "const results = (succeeded ? then : otherwise).map(",
        replace: "const results = then.map(",
      },
    ],
  },
  {
    name: "a transaction loses all changes but its first",
    rule: "TxnRequest: all or nothing",
    patches: [
      {
        file: "src/machine/kv/txn/transaction.ts",
        find: "const results = (succeeded ? then : otherwise).map((step, at) => carryOut(step, { at, index }, records));",
        replace:
          'const results = (succeeded ? then : otherwise).map((step, at) => at > 0 && step.operation.case === "put" ? resultOf({ outcome: CommandOutcome.OK }) : carryOut(step, { at, index }, records));',
      },
    ],
  },
  {
    name: "a transaction that comes in twice is carried out twice",
    rule: "RequestId: a retry has no second effect",
    patches: [
      {
        file: "src/machine/kv/apply.ts",
        find: "  if (requestId === undefined) return evaluate(operation, index, state);",
        replace: '  if (requestId === undefined || operation.case === "txn") return evaluate(operation, index, state);',
      },
    ],
  },
  {
    name: "a watch is told of one index in two answers",
    rule: "WatchResponse: all changes of one index are in one answer",
    patches: [
      {
        file: "src/server/watch/batch.ts",
        find: "for (const ofIndex of byIndex(changes)) {",
        replace: "for (const ofIndex of changes.map((each) => [each])) {",
      },
      {
        file: "src/server/watch/batch.ts",
        find: "if (part !== undefined && bytes + added <= limits.watchAnswerBytes) {",
        replace: "if (part !== undefined && bytes < 0) {",
      },
    ],
  },
  {
    name: "a watch goes on silently after an installed snapshot",
    rule: "WatchRequest: a watch whose history is gone ends with OUT_OF_RANGE",
    patches: [
      {
        file: "src/server/watch/hub.ts",
        find: "    for (const watch of this.#live()) this.#end(watch, historyGone(next, oldest));\n",
        replace: "",
      },
    ],
  },
  {
    name: "a watch that is behind skips an index when it becomes live",
    rule: "WatchResponse: every change up to `through` was told",
    patches: [
      {
        file: "src/server/watch/catch_up.ts",
        find: "    watch.next = batch.last + 1;\n    if (watch.next <= through) return;",
        replace: "    watch.next = batch.last + 2;\n    if (watch.next <= through) return;",
      },
    ],
  },
  {
    name: "a watch is told of the retry of a write",
    rule: "RequestId: a retry has no second effect",
    patches: [
      {
        file: "src/machine/kv/apply.ts",
        find: "  if (!isCarriedOut) state.notes.note(NOTHING);\n",
        replace: "",
      },
    ],
  },
  {
    name: "effects are forgotten although a watch may begin there",
    rule: "ChangeHistory.since: from there on, all effects are known",
    patches: [
      {
        file: "src/machine/kv/effects/memory_history.ts",
        find: "while ((this.#rows[0]?.last ?? Number.POSITIVE_INFINITY) <= index) this.#forgetOldest();",
        replace: "if (index > 0) this.#rows = [];",
      },
    ],
  },
  {
    name: "a watch that resumes within an answer misses the rest of it",
    rule: "WatchRequest: a watch resumes with one more than `through`",
    patches: [
      {
        file: "src/server/watch/batch.ts",
        find: "const isCut = answers.some(({ first, through }) => first < next && through >= next);",
        replace: "const isCut = false;",
      },
    ],
  },
  {
    name: "a watch that is not ready loses what it is not sent",
    rule: "WatchHub: a live watch whose stream is not ready falls behind",
    patches: [
      {
        file: "src/server/watch/hub.ts",
        find: "        this.#fallBehind(watch, next);\n        return true;",
        replace: "        return true;",
      },
    ],
  },
  {
    name: "a keep-alive does not begin the time of a lease anew",
    rule: "no lease ends before its time",
    patches: [{ file: "src/server/leases/lease_times.ts", find: "    lease.due = due;\n", replace: "" }],
  },
  {
    name: "a new leader does not read the leases that others have granted",
    rule: "no lease outlives its owner for long (etcd#13294)",
    patches: [
      {
        file: "src/server/leases/lease_keeper.ts",
        find: "if (machine.leaseCount === 0) return false;",
        replace: "if (machine.leaseCount >= 0) return false;",
      },
    ],
  },
  {
    name: "a key of a lease that has ended stays",
    rule: "RevokeRequest: all keys of a lease go with it",
    patches: [
      {
        file: "src/machine/kv/leases/lease_keys.ts",
        find: '    assert(records.delete(key), "an attached key exists", { lease: id });\n',
        replace: '    if (end === "revoked") records.delete(key);\n',
      },
    ],
  },
  {
    name: "a put without a lease stays attached",
    rule: "PutRequest.lease_id: 0 attaches to none",
    patches: [
      {
        file: "src/machine/kv/evaluate.ts",
        find: "return set(key, value, Number(leaseId), index, state.records.get(key), state);",
        replace:
          "return set(key, value, Number(leaseId) || (state.records.get(key)?.lease ?? 0), index, state.records.get(key), state);",
      },
    ],
  },
  {
    name: "a key that moved to another lease goes with the earlier one",
    rule: "PutRequest.lease_id: a key has one lease",
    patches: [
      {
        file: "src/machine/kv/leases/lease_keys.ts",
        find: "    leases.removeKey(from, key);\n    leases.put({ ...lease, keys: lease.keys - 1 });",
        replace:
          "    if (to === 0) leases.removeKey(from, key);\n    if (to === 0) leases.put({ ...lease, keys: lease.keys - 1 });",
      },
      {
        file: "src/machine/kv/leases/lease_keys.ts",
        find: '    assert(records.delete(key), "an attached key exists", { lease: id });\n',
        replace: "    records.delete(key);\n",
      },
    ],
  },
  {
    name: "a lease ends after half of its time",
    rule: "no lease ends before its time",
    patches: [
      {
        file: "src/server/leases/lease_times.ts",
        find: "Math.ceil((now + ttlMs) / SLOT_MS)",
        replace: "Math.ceil((now + ttlMs / 2) / SLOT_MS)",
      },
    ],
  },
  ...plantedStoreBugs,
];
