// The keeper thread of a client: keeps its leases alive while the client's event loop is blocked.

import { parentPort, workerData } from "node:worker_threads";
import { assert } from "../../base/assert.js";
import { CairnError } from "../../base/errors.js";
import { ChannelPool } from "../../rpc/channel_pool.js";
import { protectedSettings } from "../security/connection.js";
import { ClientLeaseKeeper } from "./keeper.js";
import { type KeeperStart, processClock, SharedBeat, SharedRecord, type ToKeeper } from "./thread_messages.js";

assert(parentPort !== null, "this file is started as a worker thread");
const port = parentPort;
const { endpoints, connection, token, beat: memory } = workerData as KeeperStart;
const beat = new SharedBeat(memory);
let newestToken = token?.first;
const channels = new ChannelPool(
  protectedSettings({ ...connection, token: token === undefined ? undefined : currentToken }, endpoints),
);
const keeper = new ClientLeaseKeeper({
  endpoints,
  channels,
  clock: processClock,
  random: Math.random,
  blockedMs: () => beat.ageMs,
});
const drops = new Map<number, () => void>();

port.on("message", (message: ToKeeper) => {
  if (message === "stop") return stop();
  if (message.type === "keep") return keep(message);
  if (message.type === "token") {
    newestToken = message.token;
    return;
  }
  drops.get(message.number)?.();
  drops.delete(message.number);
});

function currentToken(): string {
  if (newestToken !== undefined) return newestToken;
  throw new CairnError("FAILED_PRECONDITION", "the client has no token yet");
}

function keep({ number, lease, record: memory }: Extract<ToKeeper, { readonly type: "keep" }>): void {
  const record = new SharedRecord(memory);
  const drop = keeper.add({
    ...lease,
    kept(sentAt) {
      record.sentAt = sentAt;
      port.postMessage({ number });
    },
    gone() {
      record.setGone();
      drops.delete(number);
      port.postMessage({ number });
    },
  });
  drops.set(number, drop);
}

/** Ends what runs here. The thread then ends, because nothing is left to do. */
function stop(): void {
  keeper.close();
  channels.close();
  port.close();
}
