import { type ParseArgsConfig, parseArgs } from "node:util";
import { defineConfig, type ViteUserConfig } from "vitest/config";

/** What an option may be, and how that is called. */
const kinds = {
  text: { pattern: /^/, name: "a text" },
  number: { pattern: /^\d+(\.\d+)?$/, name: "a number" },
  whole: { pattern: /^\d+$/, name: "a whole number" },
  count: { pattern: /^[1-9]\d*$/, name: "a whole number" },
  flag: { pattern: /^(true|false)$/, name: "given without a value" },
  versions: { pattern: /^\d+(\.\d+)*(,\d+(\.\d+)*)*$/, name: "versions, such as 22,24.1" },
} as const;

interface CommandOption {
  readonly kind: keyof typeof kinds;
  readonly default: string;
}

/**
 * A long run as a command of its own: `npm run <name> -- --option value` runs `test/<folder>/<name>.command.ts`. The environment carries
 * the options that stand behind `--`: --wipe-state of crash as CRASH_WIPE_STATE.
 */
export function commandConfig(
  folder: string,
  name: string,
  options: Readonly<Record<string, CommandOption>>,
): ViteUserConfig {
  const { values } = parseArgs({
    args: process.argv.slice(process.argv.indexOf("--") + 1),
    options: Object.fromEntries<NonNullable<ParseArgsConfig["options"]>[string]>(
      Object.entries(options).map(([option, { kind, default: value }]) =>
        kind === "flag"
          ? [option, { type: "boolean", default: value === "true" }]
          : [option, { type: "string", default: value }],
      ),
    ),
  });
  const env: Record<string, string> = {};
  for (const [option, { kind }] of Object.entries(options)) {
    const value = String(values[option]);
    if (!kinds[kind].pattern.test(value)) {
      throw new Error(`--${option} must be ${kinds[kind].name}, not ${JSON.stringify(value)}`);
    }
    env[`${name}-${option}`.toUpperCase().replaceAll("-", "_")] = value;
  }
  return defineConfig({
    test: {
      globalSetup: ["test/support/run/global_setup.ts"],
      setupFiles: ["test/support/run/end_processes.ts"],
      include: [`test/${folder}/${name}.command.ts`],
      pool: "forks",
      testTimeout: 0,
      disableConsoleIntercept: true,
      env,
    },
  });
}

/** For a seed that nobody has named. */
export function anySeed(): string {
  return String(Date.now() % 2 ** 31);
}
