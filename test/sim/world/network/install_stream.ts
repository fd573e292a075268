import { CairnError, hasCode } from "../../../../src/base/errors.js";
import { nameOf } from "../../../../src/base/ids.js";
import type { InstallMessage, InstallReply } from "../../../../src/peers/install/install_messages.js";
import type { Self } from "../../../../src/peers/protocol.js";
import type { InstallStream } from "../../../../src/peers/transport.js";
import { demand } from "../../checks/checkers/checker.js";
import type { SimCluster } from "../cluster.js";
import type { SimNode } from "../node.js";
import type { SimNetwork } from "./network.js";
import { Pipe } from "./pipe.js";

/** Messages that may be on their way at a time: further ones wait. */
const WINDOW = 3;

/** A snapshot on its way from one node to another: two ordered pipes, which break together. */
export class SimInstall implements InstallStream {
  readonly #life: number;
  readonly #messages: Pipe<InstallMessage>;
  readonly #replies: Pipe<InstallReply>;
  readonly #targetLife: number | undefined;
  private readonly to: string;
  /** What the receiver gets is not what was sent. */
  #hasCorrupted = false;
  #isOver = false;

  constructor(
    private readonly cluster: SimCluster,
    private readonly network: SimNetwork,
    readonly from: SimNode,
    private readonly self: Self,
    /** Member key. */
    private readonly key: string,
    private readonly onEnd: () => void,
  ) {
    this.#life = from.life;
    const to = nameOf(key);
    this.to = to;
    const pipe = { scheduler: cluster.scheduler, network };
    const target = cluster.node(to);
    this.#targetLife = target?.life;
    this.#messages = new Pipe(pipe, from.id, target ?? from, WINDOW, "install message");
    this.#replies = new Pipe(pipe, to, from, Number.POSITIVE_INFINITY, "install reply");
    if (target === undefined) cluster.scheduler.after(1, undefined, "no such node", () => this.break("no such node"));
    else
      cluster.scheduler.arrive(network.delay(from.id, to), target, `install stream from ${from.id}`, () =>
        this.#serve(target),
      );
  }

  get replies(): AsyncIterable<InstallReply> {
    return this.#replies;
  }

  send(message: InstallMessage): Promise<void> {
    if (this.#isOver) return Promise.reject(broken("the stream is over"));
    if (this.network.random.chance(this.network.weather.streamBreak)) this.#breakSoon();
    return this.#messages.send(message.kind === "chunk" ? { ...message, data: this.#carried(message.data) } : message);
  }

  /** A chunk as it arrives. The sender's buffer is its own again when it is sent. */
  #carried(data: Uint8Array): Uint8Array {
    const copy = Uint8Array.prototype.slice.call(data);
    const { random, weather } = this.network;
    if (weather.corruption > 0 && random.chance(weather.corruption)) {
      const at = random.whole(0, copy.byteLength - 1);
      copy[at] = copy[at]! ^ (1 << random.whole(0, 7));
      this.#hasCorrupted = true;
      this.cluster.count("corrupt chunk");
    }
    return copy;
  }

  cancel(): void {
    if (this.#isOver) return;
    this.#over();
    this.#replies.fail(new CairnError("CANCELLED", "the stream was cancelled"));
    this.#messages.failLater(new CairnError("CANCELLED", "the sender cancelled the stream"));
  }

  /** Both ends hear of it as soon as the network lets them. */
  break(why: string): void {
    if (this.#isOver) return;
    this.cluster.count("transfer interrupted");
    this.#over();
    this.#replies.fail(broken(why));
    this.#messages.failLater(broken(why));
  }

  /** The process at a node is gone; the other end hears of it after a while. */
  lifeEnded(node: SimNode, noticedMs: number): void {
    const isEnd = (node === this.from && this.#life <= node.life) || node.id === this.to;
    if (!isEnd || this.#isOver) return;
    this.cluster.scheduler.after(noticedMs, undefined, `the end of ${node.id} breaks a stream`, () => {
      this.break(`${node.id} is gone`);
    });
  }

  #breakSoon(): void {
    const ms = this.network.delay(this.from.id, this.to);
    this.cluster.scheduler.after(ms, undefined, `a stream from ${this.from.id} breaks`, () => this.break("broken off"));
  }

  async #serve(target: SimNode): Promise<void> {
    const { life } = target;
    const node = this.network.recipient(target, this.key, this.self);
    // A process that began meanwhile knows nothing of it.
    if (node === undefined || life !== this.#targetLife || this.#isOver)
      return this.break(`${target.id} does not answer`);
    this.cluster.count("install stream");
    try {
      for await (const reply of node.receiveSnapshot(this.#messages)) {
        if (target.life !== life || target.cairn !== node) return;
        this.#reply(target, reply);
      }
      this.#replies.end();
    } catch (error) {
      if (target.life !== life) return;
      if (target.cairn !== node) return this.break(`${target.id} has another directory`);
      // What is on the sender's disk is sent unseen.
      const isDamaged = this.from.damage !== undefined;
      if (isDamaged && hasCode(error, "CORRUPT")) this.cluster.count("damage found by a receiver");
      this.cluster.checks.installFailed(target, error, this.#hasCorrupted || isDamaged);
      this.#replies.failLater(error);
    } finally {
      if (target.life === life) this.#messages.abandon();
    }
  }

  #reply(target: SimNode, reply: InstallReply): void {
    if (reply.kind === "installed") {
      this.cluster.count(reply.applied ? "install by stream" : "install found it already ahead");
      this.cluster.checks.promised(target, this.self.id, reply.term, reply.matchIndex);
    } else if (reply.kind === "accepted") {
      if (reply.offset > 0) this.cluster.count("install resumed");
      if (reply.index !== undefined) this.cluster.count("install of an older one that was nearly there");
      const parts = target.disk.fs
        .names(`${target.disk.directory}/snapshots`)
        .filter((name) => /-\w{8}\.part$/.test(name));
      demand(parts.length === 1, "of one snapshot at a time a part is there", { node: target.id, parts });
    } else if (reply.kind === "refused") this.cluster.count(`install refused: ${reply.reason}`);
    void this.#replies.send(reply).catch(() => {});
  }

  #over(): void {
    this.#isOver = true;
    this.onEnd();
  }
}

function broken(why: string): CairnError {
  return new CairnError("UNREACHABLE", `the stream broke: ${why}`);
}
