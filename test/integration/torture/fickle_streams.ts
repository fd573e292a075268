import { setTimeout as pause } from "node:timers/promises";
import { KeyValueService } from "../../../gen/cairn/v1/kv_pb.js";
import { CairnError } from "../../../src/base/errors.js";
import { type ConnectionOptions, protectedSettings } from "../../../src/client/security/connection.js";
import { openChannel, type SharedChannel } from "../../../src/rpc/client.js";
import type { Random } from "../../support/random.js";
import type { ProcessCluster } from "./cluster.js";
import type { Need, TortureRoles } from "./roles.js";

/** How long the end of a stream may take to arrive, in ms, when the file that ends it is in force. A bound, not a pause. */
const ENDED_MS = 10_000;
const LOOK_MS = 200;

/** A long stream of one node. */
interface OpenStream {
  readonly answers: AsyncIterable<unknown>;
  cancel(): void;
}

/**
 * Keeps a watch and a session open for a caller that loses its role again and again, each at one node. They must end when it has lost the role,
 * must not begin while it lacks it, and must not end for want of a role that it has.
 */
export class FickleStreams {
  /** Rejects when a stream was open that must not be, or ended that must not end. */
  readonly done: Promise<void>;
  #isStopped = false;

  constructor(
    private readonly name: string,
    private readonly cluster: ProcessCluster,
    private readonly roles: TortureRoles,
    private readonly connection: ConnectionOptions,
    private readonly random: Random,
  ) {
    this.done = Promise.all([this.#keep("watch", "read", watchAt), this.#keep("session", "some keys", sessionAt)]).then(
      () => {},
    );
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.done;
  }

  async #keep(kind: string, need: Need, open: (channel: SharedChannel) => OpenStream): Promise<void> {
    // Made once, as a client does that lives on while its files are replaced one after the other.
    const settings = protectedSettings(this.connection, this.cluster.endpoints);
    while (!this.#isStopped) {
      const { running } = this.cluster;
      if (running.length > 0) {
        const { id, address } = this.random.pick(running);
        const channel = openChannel(address, settings);
        try {
          await this.#follow(`the ${kind} of ${this.name} at ${id}`, need, open(channel));
        } finally {
          channel.close();
        }
      }
      await pause(LOOK_MS);
    }
  }

  /** Reads a stream until it ends, or must have ended. */
  async #follow(what: string, need: Need, { answers, cancel }: OpenStream): Promise<void> {
    const began = performance.now();
    let isOpen = false;
    const reading = (async () => {
      for await (const _ of answers) {
        if (!isOpen && this.roles.verdict(this.name, need, began, performance.now()) === "lacked") {
          throw new Error(`${what} began without a role`);
        }
        isOpen = true;
      }
    })();
    const ended = reading.then(
      () => "ended" as const,
      (error: unknown) => error,
    );
    for (;;) {
      const end = await Promise.race([ended, pause(LOOK_MS, undefined, { ref: false })]);
      if (end !== undefined) return this.#judge(what, need, end, began, isOpen);
      if (this.#isStopped) break;
      const lacked = this.roles.lackedSince(this.name, need);
      if (lacked !== undefined && isOpen && performance.now() - lacked > ENDED_MS) {
        throw new Error(`${what} is open ${ENDED_MS} ms after the role was taken away everywhere`);
      }
    }
    cancel();
    await ended;
  }

  #judge(what: string, need: Need, end: unknown, began: number, wasOpen: boolean): void {
    if (end === "ended") return;
    // Nodes die, and links break.
    if (!(end instanceof CairnError)) throw end;
    if (end.code !== "PERMISSION_DENIED" && end.code !== "UNAUTHENTICATED") return;
    const verdict = this.roles.verdict(this.name, need, began, performance.now());
    // A stream that began with a token ends with it, although the caller has another one by then.
    const isOldToken = wasOpen && end.code === "UNAUTHENTICATED";
    if (verdict === "held" && !isOldToken) throw new Error(`${what} ended although the caller has its role: ${end}`);
    if (wasOpen) this.roles.counts.endedStreams++;
  }
}

function watchAt(channel: SharedChannel): OpenStream {
  const controller = new AbortController();
  const answers = channel.client(KeyValueService).watch({ progressMs: 1_000 }, { signal: controller.signal });
  return { answers, cancel: () => controller.abort() };
}

function sessionAt(channel: SharedChannel): OpenStream {
  const session = channel.client(KeyValueService).session();
  session.send({ clientId: `fickle-${Math.floor(performance.now() * 1_000)}` }).catch(() => {});
  return { answers: session.responses, cancel: () => session.cancel() };
}
