// Runs cairn commands one after the other in this process, which command_host.ts starts: their code is loaded once.
import { Readable } from "node:stream";
import { pathToFileURL } from "node:url";

/** What process.exit() throws here. */
class Exit extends Error {
  constructor(code) {
    super(`exit ${code}`);
    this.code = code;
  }
}

const [command] = process.argv.slice(2);
const exit = process.exit;
process.on("disconnect", () => exit());
const environment = { ...process.env };
let count = 0;

process.setMaxListeners(0);
for (const stream of [process.stdout, process.stderr]) stream.setMaxListeners(0);

process.on("message", async ({ args, env, input }) => {
  const printed = { stdout: [], stderr: [] };
  for (const name of ["stdout", "stderr"]) process[name].write = writerTo(printed[name]);
  process.argv = [process.execPath, command, ...args];
  for (const name of Object.keys(process.env)) delete process.env[name];
  Object.assign(process.env, environment, env);
  Object.defineProperty(process, "stdin", { value: Readable.from([Buffer.from(input, "base64")]), configurable: true });
  process.exitCode = undefined;
  process.exit = (code = process.exitCode ?? 0) => {
    throw new Exit(code);
  };
  let code;
  try {
    // The command is the module: another address makes it run again.
    await import(`${pathToFileURL(command)}?${++count}`);
    code = process.exitCode ?? 0;
  } catch (error) {
    if (!(error instanceof Exit)) throw error;
    code = error.code;
  }
  process.exitCode = undefined;
  const [stdout, stderr] = [printed.stdout, printed.stderr].map((pieces) => Buffer.concat(pieces).toString());
  process.send({ code, signal: null, stdout, stderr });
});

function writerTo(pieces) {
  return (data, ...rest) => {
    pieces.push(Buffer.from(data));
    const done = rest.at(-1);
    if (typeof done === "function") setImmediate(done);
    return true;
  };
}
