// Shared by the main files of the examples: their command line, and their end.
import { join } from "node:path";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    id: { type: "string" },
    cluster: { type: "string" },
    data: { type: "string" },
    "every-ms": { type: "string", default: "1000" },
  },
});

/** This process's options for CairnMember.start, but for the machine. */
export const options = {
  id: values.id,
  directory: join(values.data, values.id),
  cluster: Object.fromEntries(values.cluster.split(",").map((member) => member.split("="))),
};

/** Pause between two things that the process does, in milliseconds. */
export const everyMs = Number(values["every-ms"]);

/** Runs a program until a signal comes. The member stops then, which ends the calls that wait for it, and hands leadership over. */
export async function run(member, program) {
  const stopping = new AbortController();
  for (const event of ["SIGINT", "SIGTERM", "disconnect"]) {
    process.once(event, () => {
      stopping.abort();
      void member.stop();
    });
  }
  member.on("leader", ({ leader, term }) => {
    console.log(leader === undefined ? "no leader" : `${leader} leads term ${term}`);
  });
  try {
    await program(stopping.signal);
  } catch (error) {
    if (!stopping.signal.aborted) throw error;
  }
  await member.stop();
  process.exit();
}

/** Commands and answers of the examples are JSON. */
export function encode(value) {
  return Buffer.from(JSON.stringify(value));
}

export function decode(bytes) {
  return JSON.parse(Buffer.from(bytes).toString());
}
