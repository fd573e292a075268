// Opens the state in a directory, and reads it when its file has lost its pages, which are then as
// sectors that the disk cannot read: the kernel ends a process that looks at them in LMDB's map.
// Says on standard output how far it came.
import { truncate } from "node:fs/promises";
import { LmdbMachine } from "../../../dist/src/machine/lmdb_machine.js";

const directory = process.argv[2];
const machine = await LmdbMachine.open({ directory });
if (machine.rebuilt) {
  process.stdout.write("rebuilt\n");
  process.exit(0);
}
await truncate(`${directory}/view-1/data.mdb`, 8192);
for (const _ of machine.range());
process.stdout.write("read\n");
process.exit(1);
