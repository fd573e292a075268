import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Scenario } from "./scenarios/commands.js";
import { runScript } from "./scenarios/script.js";

/** Set, the traces in the files are replaced by those of this run: look at what has changed before you commit it. */
const REWRITE = process.env.CAIRN_REWRITE === "1";

const directory = join(import.meta.dirname, "scenarios");

function run(script: string): string {
  const scenario = new Scenario();
  return runScript(script, (command) => scenario.run(command));
}

describe("a scenario of cores", () => {
  test.each(readdirSync(directory).filter((name) => name.endsWith(".txt")))("has the trace that %s expects", (name) => {
    const file = join(directory, name);
    const script = readFileSync(file, "utf8");
    const traced = run(script);
    if (REWRITE) writeFileSync(file, traced);
    else expect(traced).toBe(script);
  });
});

describe("the runner of scenarios", () => {
  test("puts the trace of each command under it, in place of the previous one", () => {
    const script = "# A comment.\nadd-nodes n1\n\nstatus n1\n  wrong\n  and wrong\n\n# The end.\n";
    const traced = run(script);
    expect(traced).toContain("status n1\n  n1: follower of nobody in term 0");
    expect(traced).not.toContain("wrong");
    expect(traced.replaceAll(/^ {2}.*\n/gm, "")).toBe("# A comment.\nadd-nodes n1\n\nstatus n1\n\n# The end.\n");
    expect(run(traced)).toBe(traced);
  });

  test.each([
    ["fly n1", "line 2, fly n1: there is no command fly"],
    ["status n2", "line 2, status n2: n2 does not run"],
    ["tick n1 1 soon", "line 2, tick n1 1 soon: not understood: soon"],
    ["add-nodes n2 wings=2", "not understood: wings="],
    ["add-nodes n1", "n1 is there already"],
  ])("refuses %s", (command, why) => {
    expect(() => run(`add-nodes n1\n${command}`)).toThrow(why);
  });

  test("notices two leaders in one term", () => {
    const apart = "add-nodes n1 voters=n1\nadd-nodes n2 voters=n2\ncampaign n1\nstabilize n1\n";
    expect(() => run(`${apart}campaign n2\nstabilize n2`)).toThrow("a term has one leader");
  });

  test("notices that two nodes apply different entries", () => {
    const apart = "add-nodes n1 voters=n1 log=1,1 commit=2\nadd-nodes n2 voters=n2 log=1,2 commit=2\n";
    expect(() => run(`${apart}stabilize n1\nstabilize n2`)).toThrow("all apply the same entry at an index");
  });
});
