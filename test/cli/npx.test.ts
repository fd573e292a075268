import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { version } from "../../src/base/version.js";
import { inRepository, startProcess } from "../support/processes/processes.js";

// The package `cairn` of the registry is another one: in a checkout, `npx cairn` must not ask for it.
test.each([".", "docs"])(
  "npx cairn runs the checkout's command in %s, with an empty cache and no network",
  async (folder) => {
    const cache = await mkdtemp(join(tmpdir(), "cairn-npx-"));
    onTestFinished(() => rm(cache, { recursive: true, force: true }));
    const npx = startProcess("npx", ["cairn", "--version"], {
      cwd: inRepository(folder),
      env: { npm_config_cache: cache, npm_config_offline: "true", npm_config_update_notifier: "false" },
    });
    npx.stdin.end();
    expect(await npx.ended(), npx.stderr).toEqual({ code: 0, signal: null });
    expect(npx.stdout.trim()).toBe(version);
  },
);
