// Watches a node, in a process of its own: opens and closes watches as it is told, and counts what they are told.
import { KeyValueService } from "../../dist/gen/cairn/v1/kv_pb.js";
import { openChannel } from "../../dist/src/rpc/client.js";
import { serveTasks } from "./tasks.mjs";

const WATCHES_PER_CONNECTION = 1_000;

let channels = [];
let events = 0;
let ended = 0;

/** Begins `count` watches, and returns when all of them have. `own`: each on a prefix of its own, else all on one. */
async function watch({ address, count, prefix, own }) {
  events = ended = 0;
  channels = Array.from({ length: Math.ceil(count / WATCHES_PER_CONNECTION) }, () => openChannel(address));
  const begun = Array.from({ length: count }, async (_, at) => {
    const kv = channels[at % channels.length].client(KeyValueService);
    const answers = kv.watch({ prefix: Buffer.from(own ? `${prefix}${at}/` : prefix) })[Symbol.asyncIterator]();
    await answers.next();
    void follow(answers);
  });
  await Promise.all(begun);
}

async function follow(answers) {
  try {
    for (let next = await answers.next(); !next.done; next = await answers.next()) events += next.value.events.length;
  } catch {
    ended++;
  }
}

/** How many events all watches were told of, and how many have ended, since they began. */
function told() {
  return { events, ended };
}

function unwatch() {
  for (const channel of channels) channel.close();
  channels = [];
}

serveTasks({ watch, told, unwatch });
