// A member of a cluster of one with a state machine of its own, to fuzz MachineService: node machine_node.mjs DIST DIRECTORY.
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [dist, directory] = process.argv.slice(2);
const { CairnMember, inMemory } = await import(pathToFileURL(join(dist, "src/index.js")).href);

/** Keeps the newest command, and answers with it. */
class Newest {
  command = new Uint8Array(0);

  apply(command) {
    this.command = Uint8Array.from(command);
    return this.command;
  }

  serialize() {
    return this.command;
  }

  restore(bytes) {
    this.command = Uint8Array.from(bytes);
  }
}

const member = await CairnMember.start({
  id: "m1",
  directory,
  listen: "127.0.0.1:0",
  machine: inMemory(() => new Newest()),
});
process.stdout.write(`${JSON.stringify({ event: "listening", address: member.address })}\n`);
process.once("SIGTERM", () => void member.stop().then(() => process.exit()));
