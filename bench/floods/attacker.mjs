// Runs one attack: node attacker.mjs NAME ADDRESS SECONDS. Prints what it has done.
import { attacks } from "./attacks.mjs";

const [name, address, seconds] = process.argv.slice(2);
process.on("uncaughtException", () => {});
process.on("disconnect", () => process.exit());
console.log(JSON.stringify(await attacks[name].run(address, Number(seconds))));
process.exit();
