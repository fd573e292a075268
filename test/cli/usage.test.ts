import { describe, expect, test } from "vitest";
import { version } from "../../src/base/version.js";
import { askCommand } from "../support/processes/command_host.js";
import { runCommand } from "../support/processes/processes.js";

describe("cairn --help", () => {
  test.each([
    [
      ["--help"],
      [
        "start",
        "cluster",
        "gateway",
        "status",
        "member",
        "leader",
        "snapshot",
        "verify",
        "wal",
        "doctor",
        "bench",
        "completion",
      ],
    ],
    [
      ["cluster", "--help"],
      ["--data", "--base-port", "--nodes"],
    ],
    [
      ["status", "--help"],
      ["--endpoints", "CAIRN_ENDPOINTS", "127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103", "--watch", "--json"],
    ],
    [
      ["member", "promote", "--help"],
      ["<id>", "--wait-ms", "CAIRN_ENDPOINTS"],
    ],
    [
      ["start", "--help"],
      [
        "--id",
        "--data",
        "--cluster ",
        "--join",
        "--ingress ",
        "--ingress-listen",
        "--config",
        "CAIRN_SNAPSHOT_ENTRIES",
        "--trailing-log-bytes",
        "--state <kind>",
        "--lost-disk",
        "--heal-timeout-ms",
        "--json",
      ],
    ],
    [
      ["snapshot", "restore", "--help"],
      ["--id", "--data-dir", "--cluster ", "found a new cluster when all of them have been started"],
    ],
    [
      ["gateway", "--help"],
      ["--data-dir", "--nodes", "--json-style", "--timeout-ms", "--log-level"],
    ],
  ])("prints the commands and the exit codes for %j, and exits 0", async (args, mentioned) => {
    const { code, stdout, stderr } = await askCommand(args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    for (const text of [...mentioned, "Exit codes:", "  0  ", "  1  ", "  2  ", "  70  "])
      expect(stdout).toContain(text);
  });

  test("is accompanied by --version, which prints the version", async () => {
    expect(await runCommand(["--version"])).toMatchObject({ code: 0, stdout: `${version}\n`, stderr: "" });
  });
});

describe("a command whose cluster does not answer", () => {
  test.each([
    [["status", "--endpoints", "127.0.0.1:1"], "127.0.0.1:1 "],
    [["status"], "127.0.0.1:2 "],
    [["kv", "get", "a", "--timeout-ms", "500"], "127.0.0.1:2 "],
  ])("says for %j which addresses it asked, and what to set: a flag beats CAIRN_ENDPOINTS", async (args, asked) => {
    const { code, stderr } = await askCommand(args, { env: { CAIRN_ENDPOINTS: "127.0.0.1:2" } });
    expect(code).toBe(1);
    expect(stderr).toContain(`${asked}cannot be reached`);
    expect(stderr).toContain("or name others with --endpoints or CAIRN_ENDPOINTS.");
  });
});

describe("a wrong command line exits 2, says what is wrong, and points to the help", () => {
  const start = ["start", "--id", "a", "--data", "/nonexistent/x"];

  test.each([
    [["fly"], /unknown command 'fly'/],
    [["--fly"], /unknown option '--fly'/],
    [["start"], /required option '--id <name>' not specified/],
    [[...start, "--fly"], /unknown option '--fly'/],
    [[...start, "extra"], /too many arguments/],
    [[...start, "--elections", "never"], /Allowed choices are automatic, manual/],
    [[...start, "--trailing-log-bytes", "-1"], /expected a whole number from 0/],
    [[...start, "--log-level", "loud"], /Allowed choices are silent, error, warn, info, debug/],
    [["gateway", "--json-style", "wide"], /Allowed choices are compact, spaced/],
    [["gateway", "--timeout-ms", "0"], /expected a whole number from 1/],
    [["gateway", "--nodes", "n1"], /"n1" must be name=host:port/],
    [["gateway", "--nodes", "n1=h:1,n1=h:2"], /n1 comes twice/],
    [["gateway", "--nodes", "n1=h:1", "--data-dir", "x"], /cannot be used with/],
  ])("for %j", async (args, text) => {
    const { code, stdout, stderr } = await askCommand(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(text);
    expect(stderr).toContain("(see --help)");
  });

  test("cairn without a command exits 2 and shows the help", async () => {
    const { code, stdout, stderr } = await runCommand([]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toContain("Usage: cairn");
  });
});
