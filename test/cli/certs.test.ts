import { existsSync, statSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { beforeAll, describe, expect, test } from "vitest";
import { gatewayCommand } from "../../src/cli/commands/gateway.js";
import { kvCommand } from "../../src/cli/commands/kv/kv.js";
import { leaderCommand } from "../../src/cli/commands/leader.js";
import { electCommand } from "../../src/cli/commands/locks/elect.js";
import { leaseCommand } from "../../src/cli/commands/locks/lease.js";
import { lockCommand } from "../../src/cli/commands/locks/lock.js";
import { memberCommand } from "../../src/cli/commands/member.js";
import { snapshotCommand } from "../../src/cli/commands/snapshot/snapshot.js";
import { statusCommand } from "../../src/cli/commands/status.js";
import { verifyCommand } from "../../src/cli/commands/verify.js";
import { addConnectionOptions, type ConnectionFlags, connectionFrom } from "../../src/cli/options/connection.js";
import { failure } from "../support/conditions.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { freePortRange } from "../support/processes/ports.js";
import { runCommand, startCommand, startNode } from "../support/processes/processes.js";

/** Certificates for all of the file, and a node that has one. */
let certs: string;
let endpoint: string;

beforeAll(async () => {
  certs = await mkdtemp(join(tmpdir(), "cairn-test-certs-"));
  expect((await runCommand(["certs", "dev", "--out", certs, "--nodes", "n1"])).code).toBe(0);
  const args = ["--tls-cert", join(certs, "nodes/n1.crt"), "--tls-key", join(certs, "nodes/n1.key")];
  args.push("--tls-client-ca", join(certs, "client-authority/authority.crt"));
  const node = await startNode({ id: "n1", data: join(certs, "data"), args });
  endpoint = node.address;
  return async () => {
    await node.kill();
    await rm(certs, { recursive: true, force: true });
  };
});

/** Flags of a client with a certificate. */
function clientFlags(name = "admin"): string[] {
  const ca = ["--tls-ca", join(certs, "peer-authority/authority.crt")];
  return [...ca, "--tls-cert", join(certs, `clients/${name}.crt`), "--tls-key", join(certs, `clients/${name}.key`)];
}

function run(...args: string[]) {
  return runCommand(args, { env: { CAIRN_ENDPOINTS: endpoint } });
}

describe("cairn certs", () => {
  test("makes an authority and what it signs, shows it, and never replaces files without --force", async () => {
    const out = await temporaryDirectory();
    const authority = await run("certs", "authority", "--out", join(out, "ca"), "--name", "Peers", "--json");
    expect(JSON.parse(authority.stdout)).toMatchObject({
      written: [{ certificateFile: join(out, "ca/authority.crt"), subject: "CN=Peers", isAuthority: true }],
    });
    const flags = ["--authority", join(out, "ca"), "--out", out];
    const node = ["certs", "node", ...flags, "--id", "n4", "--cluster-id", "c1", "--host", "10.0.0.4,db4.example"];
    const [made, client] = await Promise.all([
      run(...node, "--days", "7"),
      run("certs", "client", ...flags, "--name", "alice", "--san", "DNS:app.example"),
    ]);
    expect(made).toMatchObject({ code: 0, stdout: expect.stringMatching(/n4\.crt {2}CN=n4, until 20.*\n.*n4\.key/) });
    expect(client.code).toBe(0);
    expect(statSync(join(out, "n4.key")).mode & 0o777).toBe(0o600);
    const [shown, json, again, forced] = await Promise.all([
      run("certs", "show", join(out, "n4.crt")),
      run("certs", "show", join(out, "alice.crt"), "--json"),
      run("certs", "client", ...flags, "--name", "alice"),
      run(...node, "--force"),
    ]);
    expect(shown.stdout).toMatch(
      /kind: +node n4 of cluster c1\nnames: +URI:cairn:.*db4\.example\nfor: +serverAuth, clientAuth/,
    );
    expect(JSON.parse(json.stdout)).toMatchObject({
      certificates: [{ subject: "CN=alice", issuer: "CN=Peers", names: ["DNS:app.example"], usages: ["clientAuth"] }],
    });
    expect(again).toMatchObject({ code: 1, stderr: expect.stringContaining("alice.crt exist already") });
    expect(forced.code).toBe(0);
  });

  test("refuses what it cannot make, and leaves nothing behind", async () => {
    const out = await temporaryDirectory();
    const files = join(out, "files");
    const wanted: [string[], number, RegExp][] = [
      [["dev"], 2, /required option '--out <dir>' not specified/],
      [["node", "--out", files, "--authority", out, "--id", "n1", "--cluster-id", "c1"], 2, /option '--host <list>'/],
      [["node", "--out", files, "--authority", out, "--id", "n1", "--cluster-id", "c1", "--host", "a"], 1, /NOT_FOUND/],
      [["dev", "--out", files, "--host", "a:7101"], 1, /"a:7101" must be a DNS name or an IP address, without a port/],
      [["dev", "--out", files, "--nodes", "n1,n1"], 2, /without repetitions/],
      [["dev", "--out", files, "--clients", "a b"], 1, /the client's name "a b" must be/],
      [["dev", "--out", files, "--days", "0"], 2, /expected a whole number from 1 to 36500/],
      [["show", join(out, "none")], 1, /NOT_FOUND/],
    ];
    const results = await Promise.all(wanted.map(([args]) => run("certs", ...args)));
    for (const [at, [, code, text]] of wanted.entries()) {
      expect(results[at]).toMatchObject({ code, stderr: expect.stringMatching(text) });
    }
    expect(existsSync(files)).toBe(false);
  });
});

describe("cairn cluster --certs", () => {
  test("runs nodes with those certificates, and shows how to call them", async () => {
    const data = await temporaryDirectory();
    const flags = ["--data", data, "--base-port", `${await freePortRange(0)}`, "--nodes", "1", "--certs", certs];
    const cluster = startCommand(["cluster", ...flags], { cwd: certs });
    await cluster.waitFor(/Ctrl-C stops all/);
    expect(cluster.stdout).toContain(
      "export CAIRN_TLS_CA=peer-authority/authority.crt CAIRN_TLS_CERT=clients/admin.crt CAIRN_TLS_KEY=clients/admin.key",
    );
    const [, endpoints] = /export CAIRN_ENDPOINTS=(\S+)/.exec(cluster.stdout)!;
    expect((await run("leader", "--endpoints", endpoints!, ...clientFlags())).stdout).toContain("n1 leads");
    expect(await cluster.kill("SIGINT")).toMatchObject({ code: 0 });
  });

  test("says which certificates are missing, and how to make them", async () => {
    const { code, stderr } = await run("cluster", "--nodes", "2", "--certs", certs);
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /lacks \S+nodes\/n2\.crt, \S+n2\.key: make the certificates with cairn certs dev --out \S+ --nodes n1,n2/,
    );
  });
});

describe("a command that connects to a node with TLS", () => {
  test("uses its flags, or the environment", async () => {
    const put = await run("kv", "put", "k", "v", ...clientFlags());
    expect(put).toMatchObject({ code: 0, stderr: "" });
    const [ca, cert, key] = clientFlags().filter((_, at) => at % 2 === 1);
    const env = { CAIRN_ENDPOINTS: endpoint, CAIRN_TLS_CA: ca!, CAIRN_TLS_CERT: cert!, CAIRN_TLS_KEY: key! };
    const print = "process.stdout.write(process.env.CAIRN_LOCK_TOKEN)";
    const [status, get, lock, gateway] = await Promise.all([
      runCommand(["status", "--json"], { env }),
      runCommand(["kv", "get", "k"], { env }),
      runCommand(["lock", "l", "--", process.execPath, "-e", print], { env }),
      runCommand(["gateway", "--nodes", `n1=${endpoint}`], {
        env,
        input: '{"src":"c","dest":"n1","body":{"type":"init","msg_id":1,"node_id":"n1","node_ids":["n1"]}}\n',
      }),
    ]);
    expect(JSON.parse(status.stdout)).toMatchObject({ leader: "n1" });
    expect(get).toMatchObject({ code: 0, stdout: "v" });
    expect(lock).toMatchObject({ code: 0, stdout: expect.stringMatching(/^\d+$/) });
    expect(gateway.stdout).toContain('"type":"init_ok"');
  });

  test("says what is wrong, and what to check", async () => {
    const [ca, authority] = clientFlags();
    const advice = "Check --tls-ca, --tls-cert, --tls-key and --tls-server-name";
    const [plain, bare, strange] = await Promise.all([
      run("status"),
      run("status", ca!, authority!),
      run("status", ...clientFlags(), "--tls-ca", join(certs, "client-authority/authority.crt"), "--json"),
    ]);
    expect(plain.stderr).toMatch(/it may speak TLS only.*\. Check --tls-ca/);
    expect(bare.stderr).toContain("the server demands a client certificate, and none is given");
    expect(JSON.parse(strange.stderr)).toMatchObject({
      code: "UNREACHABLE",
      message: expect.stringContaining("CN=Peers of dev, is not one that this client trusts"),
      advice: expect.stringContaining(advice),
    });
    const [missing, gateway] = await Promise.all([
      run("kv", "get", "k", "--tls-ca", "/no/such"),
      run("gateway", "--tls-ca", authority!),
    ]);
    expect(gateway).toMatchObject({ code: 2, stderr: expect.stringContaining("needs --nodes") });
    expect(missing).toMatchObject({ code: 1, stderr: expect.stringContaining("/no/such cannot be read: ENOENT") });
  });
});

describe("options for secure connections", () => {
  test("belong to every command that takes the addresses of nodes", () => {
    const program = new Command();
    for (const command of [kvCommand(), leaderCommand(), electCommand(), leaseCommand(), lockCommand()]) {
      program.addCommand(command);
    }
    for (const command of [memberCommand(), snapshotCommand(), statusCommand(), verifyCommand(), gatewayCommand()]) {
      program.addCommand(command);
    }
    const names = (command: Command) => command.options.map((option) => option.name());
    const connecting = allOf(program).filter((each) => names(each).some((name) => /^(endpoints|nodes)$/.test(name)));
    expect(connecting.length).toBeGreaterThan(20);
    const wanted = ["tls-ca", "tls-cert", "tls-key", "tls-server-name", "token-file", "insecure"];
    const lacking = connecting.filter((each) => !wanted.every((name) => names(each).includes(name)));
    expect(lacking.map((each) => each.name())).toEqual([]);
  });

  test("give TLS, and the token of a file as it is now or of the environment", async () => {
    const flagsOf = (...args: string[]) =>
      addConnectionOptions(new Command()).parse(args, { from: "user" }).opts<ConnectionFlags>();
    expect(connectionFrom(flagsOf())).toEqual({ tls: undefined, token: undefined, insecure: undefined });
    const tls = flagsOf("--tls-ca", "a", "--tls-cert", "b", "--tls-key", "c", "--tls-server-name", "d", "--insecure");
    expect(connectionFrom(tls)).toEqual({
      tls: { ca: "a", certificate: "b", key: "c", serverName: "d" },
      token: undefined,
      insecure: true,
    });
    const file = join(await temporaryDirectory(), "token");
    await failure(
      "INVALID_ARGUMENT",
      () => connectionFrom({ tokenFile: file }),
      "the token's file cannot be read: ENOENT",
    );
    await writeFile(file, "\n");
    await failure("INVALID_ARGUMENT", () => connectionFrom({ tokenFile: file }), "is empty");
    await writeFile(file, "first\n");
    const { token } = connectionFrom({ tokenFile: file });
    const read = token as () => string;
    expect(read()).toBe("first");
    await writeFile(file, "second\n");
    await expect.poll(read, { timeout: 20_000 }).toBe("second");
    await rm(file);
    expect(read()).toBe("second");
    process.env.CAIRN_TOKEN = "of the environment";
    try {
      expect(connectionFrom({}).token).toBe("of the environment");
      expect(typeof connectionFrom({ tokenFile: certs && join(certs, "clients/admin.crt") }).token).toBe("function");
    } finally {
      delete process.env.CAIRN_TOKEN;
    }
  });
});

function allOf(command: Command): Command[] {
  return [command, ...command.commands.flatMap((each) => allOf(each as Command))];
}
