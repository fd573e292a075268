import { setTimeout as pause } from "node:timers/promises";
import { AdminService } from "../../../gen/cairn/v1/admin_pb.js";
import type { ConnectionOptions } from "../../../src/client/security/connection.js";
import { bearer, newToken, tokenHash } from "../../../src/server/access/tokens.js";
import { replaceFile } from "../../support/disk/replace_file.js";
import type { Random } from "../../support/random.js";
import type { TortureCertificates } from "./certificates.js";
import type { ProcessCluster } from "./cluster.js";

/** Time between two replacements of the access file, in ms. */
const REPLACE_MS = 20_000;
/** How long nodes may take to put a file in force, in ms, paused ones included. A bound, not a pause. */
const IN_FORCE_MS = 60_000;
const PROBE_MS = 1_000;

/** Callers that keep their roles, which each file grants in another way. */
export const STEADY_CALLERS = ["c0", "c1", "c2", "c3", "c4", "c5", "watchers", "holders"] as const;
/** Callers that lose their roles, and get them back. */
export const FICKLE_CALLERS = ["f0", "f1", "f2"] as const;

/** The caller that the harness itself is: an operator. */
export const HARNESS = "harness";

/** Callers that show a token; the others have a certificate alone. */
const TOKEN_CALLERS: ReadonlySet<string> = new Set(["c1", "c3", "c5", "watchers", "holders", "f1"]);

/** What the file says of a fickle caller. */
const STANDINGS = ["writer", "reader", "elsewhere", "without credentials", "gone"] as const;
type Standing = (typeof STANDINGS)[number];

/** Prefixes that hold every key of a run. */
const PREFIXES = [...Array.from({ length: 10 }, (_, digit) => `${digit}`), "pair-"];

/** What a caller's role must allow: to read or write the workload's keys, or any keys, as a session needs it. */
export type Need = "read" | "write" | "some keys";

/** What may be said of a caller's role for a while: it had it all the time, never, or nobody can tell. */
export type Verdict = "held" | "lacked" | "unclear";

/** One access file. */
interface Generation {
  readonly number: number;
  /** The token of a caller that this file alone has. */
  readonly canary: string;
  readonly standings: ReadonlyMap<string, Standing>;
  /** When nodes may have begun to use it. */
  readonly writtenAt: number;
  /** Since when no node uses an earlier one. */
  confirmedAt: number;
}

/**
 * The access file of all nodes of a run. It is replaced again and again: some callers lose roles and get them back, others keep them while their
 * tokens and prefixes change. Each file has a token of its own, so that the harness can ask a node whether the file is in force there.
 */
export class TortureRoles {
  readonly counts = { roleChanges: 0, refusedCalls: 0, endedStreams: 0 };
  /** Rejects when a file could not be put in force. */
  readonly failed: Promise<never>;
  #fail!: (error: unknown) => void;
  readonly #generations: Generation[] = [];
  /** By caller: the token that it uses, and the one that it will use when the newest file is in force. */
  readonly #tokens = new Map<string, { inUse: string; next: string }>();
  readonly #stopping = new AbortController();
  #running: Promise<void> = Promise.resolve();

  private constructor(
    readonly file: string,
    private readonly certificates: TortureCertificates,
    private readonly random: Random,
  ) {
    this.failed = new Promise((_, reject) => {
      this.#fail = reject;
    });
    this.failed.catch(() => {});
  }

  static async create(file: string, certificates: TortureCertificates, random: Random): Promise<TortureRoles> {
    const made = new TortureRoles(file, certificates, random);
    made.#confirm(await made.#write());
    return made;
  }

  /** How a caller connects: by its certificate, and some by a token, too, which counts then, and which changes with each file. */
  async connectionOf(name: string): Promise<ConnectionOptions> {
    const { tls } = await this.certificates.client(name);
    return byToken(name) ? { tls, token: () => this.#tokensOf(name).inUse } : { tls };
  }

  replaceAgainAndAgain(cluster: ProcessCluster, progress: (line: string) => void): void {
    this.#running = this.#replace(cluster, progress).catch((error: unknown) => this.#fail(error));
  }

  /** Changes nothing from now on. May be called more than once. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  /** Whether a fickle caller had the role from one moment to another, by every file that a node may have used meanwhile. */
  verdict(name: string, need: Need, from: number, to: number): Verdict {
    const possible = this.#generations.filter(({ writtenAt }, at) => {
      const next = this.#generations[at + 1];
      return writtenAt <= to && (next === undefined || next.confirmedAt >= from);
    });
    const allowed = possible.map(({ standings }) => allows(standings.get(name)!, need));
    if (allowed.every((each) => each)) return "held";
    return allowed.some((each) => each) ? "unclear" : "lacked";
  }

  /** Since when a caller has certainly not had the role; undefined when it has, or nobody can tell. */
  lackedSince(name: string, need: Need): number | undefined {
    const newest = this.#generations.at(-1)!;
    const isOver = newest.confirmedAt < performance.now() && !allows(newest.standings.get(name)!, need);
    return isOver ? newest.confirmedAt : undefined;
  }

  async #replace(cluster: ProcessCluster, progress: (line: string) => void): Promise<void> {
    const { signal } = this.#stopping;
    for (;;) {
      await pause(REPLACE_MS, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      const generation = await this.#write();
      this.counts.roleChanges++;
      progress(`roles: ${[...generation.standings].map(([name, standing]) => `${name} ${standing}`).join(", ")}`);
      await this.#untilInForce(cluster, generation);
      this.#confirm(generation);
    }
  }

  /** The file is in force: callers change to the newer of the two tokens that it has. The next file lacks the older one. */
  #confirm(generation: Generation): void {
    generation.confirmedAt = performance.now();
    for (const tokens of this.#tokens.values()) tokens.inUse = tokens.next;
  }

  /** Writes another file, in which every caller keeps its role that must, and the others draw one. */
  async #write(): Promise<Generation> {
    const number = this.#generations.length;
    const isFirst = number === 0;
    const standings = new Map<string, Standing>(
      FICKLE_CALLERS.map((name) => [name, isFirst ? "writer" : this.random.pick(STANDINGS)]),
    );
    for (const tokens of this.#tokens.values()) tokens.next = newToken();
    const canary = newToken();
    const callers = [
      { name: HARNESS, certificates: [`CN=${HARNESS}`], grants: [{ role: "admin" }, { role: "writer" }] },
      { name: "canary", tokens: [tokenHash(canary)], grants: [{ role: "reader", prefixes: ["none/"] }] },
      ...STEADY_CALLERS.map((name) => this.#entry(name, this.#steadyGrants(name))),
      ...FICKLE_CALLERS.flatMap((name) => this.#fickleEntry(name, standings.get(name)!)),
    ];
    const generation = {
      number,
      canary,
      standings,
      writtenAt: performance.now(),
      confirmedAt: Number.POSITIVE_INFINITY,
    };
    this.#generations.push(generation);
    await replaceFile(this.file, JSON.stringify({ callers }));
    return generation;
  }

  #entry(name: string, grants: readonly object[]) {
    if (!byToken(name)) return { name, certificates: [`CN=${name}`], grants };
    const { inUse, next } = this.#tokensOf(name);
    return { name, tokens: [...new Set([inUse, next])].map(tokenHash), grants };
  }

  /** The same keys, said in different ways. Watches and locks need more than the workload's own keys. */
  #steadyGrants(name: string): readonly object[] {
    if (!name.startsWith("c") || this.random.oneIn(3)) return [{ role: "writer" }];
    if (this.random.oneIn(2)) return [{ role: "writer", prefixes: PREFIXES }];
    const middle = this.random.whole(1, PREFIXES.length - 1);
    return [PREFIXES.slice(0, middle), PREFIXES.slice(middle)].map((prefixes) => ({ role: "writer", prefixes }));
  }

  #fickleEntry(name: string, standing: Standing): readonly object[] {
    switch (standing) {
      case "writer":
      case "reader":
        return [this.#entry(name, [{ role: standing }])];
      case "elsewhere":
        return [this.#entry(name, [{ role: "writer", prefixes: ["elsewhere/"] }])];
      case "without credentials":
        return [{ name, tokens: [tokenHash(newToken())], grants: [{ role: "writer" }] }];
      case "gone":
        return [];
    }
  }

  async #untilInForce(cluster: ProcessCluster, { number, canary }: Generation): Promise<void> {
    const end = performance.now() + IN_FORCE_MS;
    for (;;) {
      const late = await nodesWithout(cluster, canary);
      if (late.length === 0) return;
      if (this.#stopping.signal.aborted) return;
      if (performance.now() > end) {
        throw new Error(`access file ${number} is not in force in ${IN_FORCE_MS} ms at ${late.join(", ")}`);
      }
      await pause(50);
    }
  }

  #tokensOf(name: string): { inUse: string; next: string } {
    let known = this.#tokens.get(name);
    if (known === undefined) {
      const token = newToken();
      known = { inUse: token, next: token };
      this.#tokens.set(name, known);
    }
    return known;
  }
}

function byToken(name: string): boolean {
  return TOKEN_CALLERS.has(name);
}

function allows(standing: Standing, need: Need): boolean {
  if (need === "some keys" && standing === "elsewhere") return true;
  return standing === "writer" || (standing === "reader" && need !== "write");
}

/** The nodes that do not know the token. One that does not run reads the file when it starts. */
async function nodesWithout(cluster: ProcessCluster, token: string): Promise<string[]> {
  const settings = { metadata: { authorization: bearer(token) }, timeoutMs: PROBE_MS };
  const late = await Promise.all(
    cluster.nodes.map(async (node) => {
      if (!node.isRunning) return [];
      const admin = node.channel.client(AdminService);
      return admin.getStatus({}, settings).then(
        () => [],
        () => [node.id],
      );
    }),
  );
  return late.flat();
}
