// Asks the registry for known vulnerabilities of the packages that Cairn runs on: `npm run audit`. Fails for high and
// critical ones. A registry that cannot be reached, or that has no such list, is no failure: the reason is printed.
import { spawnSync } from "node:child_process";

const FAILING = ["high", "critical"];

/** A registry that is not there must not hold a build up. */
const PATIENCE = ["--fetch-retries=0", "--fetch-timeout=30000"];

/**
 * Judges what `npm audit --json` has printed: `isFailed` says whether the check fails, and `lines`
 * are for whoever runs it.
 */
export function judge(output) {
  const report = parse(output);
  const counts = report?.metadata?.vulnerabilities;
  if (counts === undefined) return { isFailed: false, lines: [`not checked: ${reasonOf(report, output)}`] };
  const found = Object.values(report.vulnerabilities ?? {});
  const lines = found.map(({ name, severity, range, via, fixAvailable }) => {
    const titles = (via ?? []).flatMap((each) => (typeof each === "string" ? [] : [`${each.title} (${each.url})`]));
    const fix = fixAvailable ? "a fix is available" : "no fix is available";
    return `${severity}: ${name} ${range}: ${titles.join("; ") || `by ${via.join(", ")}`}; ${fix}`;
  });
  const isFailed = FAILING.some((severity) => counts[severity] > 0);
  const verdict = isFailed ? "high or critical vulnerabilities" : "no high or critical vulnerability";
  return { isFailed, lines: [...lines, `${verdict} in the packages that Cairn runs on`] };
}

function parse(output) {
  try {
    return JSON.parse(output);
  } catch {
    return undefined;
  }
}

function reasonOf(report, output) {
  const said = report?.message ?? report?.error?.summary ?? output.trim().split("\n")[0];
  return `the registry does not answer the question for vulnerabilities (${said || "npm printed nothing"})`;
}

function main() {
  // npm tells the scripts that it runs where it is.
  const npm = process.env.npm_execpath;
  const [command, first] = npm === undefined ? ["npm", []] : [process.execPath, [npm]];
  const { stdout, error } = spawnSync(command, [...first, "audit", "--omit=dev", "--json", ...PATIENCE], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  if (error !== undefined) throw error;
  const { isFailed, lines } = judge(stdout);
  for (const line of lines) process.stdout.write(`${line}\n`);
  process.exitCode = isFailed ? 1 : 0;
}

if (process.argv[1] === import.meta.filename) main();
