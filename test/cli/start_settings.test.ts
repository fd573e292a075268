import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { CommanderError } from "commander";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { limits } from "../../src/base/limits.js";
import { startCommand } from "../../src/cli/commands/start.js";
import { type StartOptions, type StartSettings, settingsOf } from "../../src/cli/options/start_settings.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";

/** What a command line comes to, with addresses wherever they are. */
function settings(args: readonly string[]): StartSettings {
  return settingsAsGiven(["--insecure", ...args]);
}

function settingsAsGiven(args: readonly string[]): StartSettings {
  let found: StartSettings | undefined;
  const command = startCommand()
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
  command.action((options: StartOptions) => {
    found = settingsOf(options, command);
  });
  command.parse(args, { from: "user" });
  return found!;
}

function refused(args: readonly string[], parse = settings): string {
  try {
    parse(args);
  } catch (error) {
    if (error instanceof CommanderError) return error.message;
    throw error;
  }
  throw new Error(`${args.join(" ")} was not refused`);
}

async function configFile(content: unknown): Promise<string> {
  const file = join(await temporaryDirectory(), "cairn.json");
  await writeFile(file, typeof content === "string" ? content : JSON.stringify(content));
  return file;
}

const BASE = ["--id", "n1", "--data", "d"];
const THREE = "n3=h3:7103,n1=h1:7101,n2=h2:7102";

beforeEach(() => {
  for (const name of Object.keys(process.env)) if (name.startsWith("CAIRN_")) vi.stubEnv(name, undefined);
  return () => vi.unstubAllEnvs();
});

describe("a setting of cairn start", () => {
  test("comes from its flag, then the environment, then the config file, then the default", async () => {
    const config = await configFile({ "tick-ms": 1, "election-ticks": 4, "segment-bytes": 5_000_000, id: "of-file" });
    vi.stubEnv("CAIRN_TICK_MS", "2");
    vi.stubEnv("CAIRN_ELECTION_TICKS", "5");
    vi.stubEnv("CAIRN_DATA", "of-environment");
    const found = settings(["--config", config, "--tick-ms", "3"]);
    expect(found).toMatchObject({ tickMs: 3, electionTicks: 5, segmentBytes: 5_000_000, id: "of-file" });
    expect(found).toMatchObject({ data: "of-environment", trailingLogBytes: limits.trailingLogBytes });
  });

  test("comes from a config file that the environment names, with lists as JSON arrays", async () => {
    const cluster = { n1: "h1:7101", n2: "h2:7102" };
    vi.stubEnv("CAIRN_CONFIG", await configFile({ id: "n2", data: "d", cluster, json: true, "log-level": "info" }));
    expect(settings([])).toMatchObject({
      listen: "h2:7102",
      json: true,
      logLevel: "info",
      members: [
        { id: "n1", address: "h1:7101", role: "voter" },
        { id: "n2", address: "h2:7102", role: "voter" },
      ],
    });
    const joining = await configFile({ join: ["h1:7101", "h2:7102"] });
    expect(settings([...BASE, "--config", joining]).join).toEqual(["h1:7101", "h2:7102"]);
  });

  test.each<[unknown, RegExp]>([
    [{ "snapshot-entry": 5 }, /unknown key "snapshot-entry"; known are access, advertise, cluster, .*snapshot-entries/],
    [{ config: "other.json" }, /unknown key "config"/],
    [{ snapshotEntries: 5 }, /unknown key "snapshotEntries"/],
    [{ "tick-ms": 0 }, /tick-ms: expected a whole number from 1/],
    [{ "tick-ms": "often" }, /tick-ms: expected a whole number/],
    [{ "tick-ms": null }, /tick-ms: null is neither a text nor a number/],
    [{ elections: "never" }, /elections: Allowed choices are automatic, manual/],
    [{ json: "yes" }, /json: expected true or false/],
    [{ id: "a b" }, /id: expected 1 to 64 characters/],
    [{ cluster: { n1: 5 } }, /cluster: "n1=5" must be name=host:port/],
    [[1], /it is not a JSON object/],
    ["{", /it is not JSON/],
  ])("is refused by name when the config file holds %j", async (content, text) => {
    const config = await configFile(content);
    const message = refused([...BASE, "--config", config]);
    expect(message).toMatch(text);
    expect(message).toContain(`config file ${config}: `);
  });

  test("is refused when the environment or the file is wrong, even if a flag overrides it", async () => {
    const config = await configFile({ "tick-ms": 0 });
    expect(refused([...BASE, "--config", config, "--tick-ms", "5"])).toMatch(/tick-ms/);
    expect(refused([...BASE, "--config", "/nonexistent/cairn.json"])).toMatch(/it cannot be read: ENOENT/);
    vi.stubEnv("CAIRN_ELECTION_TICKS", "1");
    expect(refused(BASE)).toMatch(/value '1' from env 'CAIRN_ELECTION_TICKS' is invalid/);
  });

  test("gives ingress processes an address of their own", async () => {
    expect(settings(BASE).ingress).toBeUndefined();
    const config = await configFile({ ingress: 2, "ingress-listen": "127.0.0.1:7201" });
    expect(settings([...BASE, "--config", config]).ingress).toEqual({ processes: 2, listen: "127.0.0.1:7201" });
    vi.stubEnv("CAIRN_INGRESS", "3");
    vi.stubEnv("CAIRN_INGRESS_LISTEN", "127.0.0.1:0");
    expect(settings([...BASE, "--listen", "127.0.0.1:0"]).ingress).toEqual({ processes: 3, listen: "127.0.0.1:0" });
  });

  test.each([
    [["--ingress", "2"], /--ingress 2 needs --ingress-listen host:port/],
    [["--ingress-listen", "h1:7201"], /--ingress-listen is h1:7201, but no process would serve there: give --ingress/],
    [["--ingress", "1", "--ingress-listen", "127.0.0.1:7101"], /--ingress-listen and --listen are both 127.0.0.1:7101/],
    [["--ingress", "65", "--ingress-listen", "h1:7201"], /expected a whole number from 0 to 64/],
  ])("is refused with %j, and the flag is named", (flags, text) => {
    expect(refused([...BASE, ...flags])).toMatch(text);
  });

  test("leaves snapshots uncompressed and unlimited in bandwidth by default", async () => {
    expect(settings(BASE)).toMatchObject({ snapshotBandwidth: undefined, snapshotCompression: undefined });
    vi.stubEnv("CAIRN_SNAPSHOT_BANDWIDTH", "5000000");
    const config = await configFile({ "snapshot-compression": "deflate" });
    const found = settings([...BASE, "--config", config]);
    expect(found).toMatchObject({ snapshotBandwidth: 5_000_000, snapshotCompression: "deflate" });
    expect(refused([...BASE, "--snapshot-bandwidth", "1023"])).toMatch(/expected a whole number from 1024/);
    expect(refused([...BASE, "--snapshot-compression", "zip"])).toMatch(/Allowed choices are none, deflate/);
  });

  test("has no default when it is the id or the data directory", () => {
    expect(refused([])).toMatch(/required option '--id <name>' not specified/);
    expect(refused(["--id", "a"])).toMatch(/required option '--data <dir>' not specified/);
  });
});

describe("a cluster that cairn start creates", () => {
  test("has the same members and the same id on all nodes, in whatever order the list is given", () => {
    const first = settings([...BASE, "--cluster", THREE]);
    const second = settings(["--id", "n2", "--data", "d", "--cluster", THREE.split(",").toReversed().join(",")]);
    expect(first.members).toEqual(second.members);
    expect(first.members.map(({ id }) => id)).toEqual(["n1", "n2", "n3"]);
    expect(first.derivedClusterId).toBe(second.derivedClusterId);
    expect(first.derivedClusterId).toMatch(/^cluster-[0-9a-f]{16}$/);
    expect([first.listen, second.listen]).toEqual(["h1:7101", "h2:7102"]);
    const other = settings([...BASE, "--cluster", THREE.replace("7103", "7104")]);
    expect(other.derivedClusterId).not.toBe(first.derivedClusterId);
  });

  test("may listen on another address than the one that its peers use", () => {
    const found = settings([...BASE, "--cluster", THREE, "--listen", "0.0.0.0:9", "--advertise", "h1:7101"]);
    expect(found).toMatchObject({ listen: "0.0.0.0:9", advertise: "h1:7101" });
  });

  test("of one node is reached where the node listens, if that is known", () => {
    const addressOf = (...args: string[]) => settings([...BASE, ...args]).members[0]?.address;
    expect(addressOf()).toBe("127.0.0.1:7101");
    expect(addressOf("--listen", "h1:5")).toBe("h1:5");
    expect(addressOf("--listen", "h1:0")).toBe("");
    expect(addressOf("--listen", "0.0.0.0:5")).toBe("");
    expect(addressOf("--listen", "[::]:5", "--advertise", "h1:5")).toBe("h1:5");
    expect(settings(BASE).derivedClusterId).toBeUndefined();
  });

  test.each<[readonly string[], RegExp]>([
    [["--cluster", "n2=h2:1"], /names n2, but not this node, n1\. Start a node that joins later with --join/],
    [["--cluster", "n1=h1:1,n 2=h2:1"], /"n 2" is not the name of a node/],
    [["--cluster", "n1=h1:1,n1=h2:1"], /n1 comes twice/],
    [["--cluster", "n1=h1"], /"n1=h1" must be name=host:port/],
    [["--cluster", "n1=h1:0"], /"n1=h1:0" must be name=host:port/],
    [["--cluster", THREE, "--join", "h9:1"], /'--cluster <list>' cannot be used with '--join <list>'/],
    [["--cluster", THREE, "--advertise", "h1:9"], /--advertise is h1:9, but --cluster says that n1 is at h1:7101/],
    [["--join", "h9"], /"h9" must be host:port/],
    [["--join", "h9:1", "--listen", "0.0.0.0:7101"], /does not say where others reach this node: give --advertise/],
    [["--advertise", "h1:0"], /must be host:port/],
  ])("is refused for %j", (args, text) => {
    expect(refused([...BASE, ...args])).toMatch(text);
  });
});

describe("TLS", () => {
  const TLS = ["--tls-cert", "c", "--tls-key", "k"];

  test("takes its files from flags, the environment and the config file, and opens any address", async () => {
    vi.stubEnv("CAIRN_TLS_KEY", "k");
    vi.stubEnv("CAIRN_TLS_CLIENT_CA", "clients");
    const config = await configFile({ "tls-cert": "of-file", "tls-peer-ca": "peers", "tls-peer-cert": "pc" });
    const args = ["--config", config, "--tls-cert", "c", "--tls-peer-key", "pk", "--listen", "0.0.0.0:1"];
    const tls = { certificate: "c", key: "k", clientCa: "clients", peerCa: "peers" };
    expect(settingsAsGiven([...BASE, ...args])).toMatchObject({
      tls: { ...tls, peerCertificate: "pc", peerKey: "pk" },
      insecure: false,
    });
    expect(settingsAsGiven([...BASE, ...TLS, "--tls-client-ca", "x"]).tls).toMatchObject({ clientCa: "x" });
  });

  test("is not needed on loopback, nor where the config file says insecure", async () => {
    for (const listen of ["localhost:1", "127.0.0.2:1", "[::1]:1"]) {
      expect(settingsAsGiven([...BASE, "--listen", listen])).toMatchObject({ tls: undefined, insecure: false });
    }
    const config = await configFile({ insecure: true });
    expect(settingsAsGiven([...BASE, "--listen", "0.0.0.0:1", "--config", config]).insecure).toBe(true);
  });

  test.each<[readonly string[], RegExp]>([
    [["--tls-cert", "c"], /^error: --tls-cert is given, and TLS needs both --tls-cert and --tls-key/],
    [["--tls-peer-ca", "c"], /^error: --tls-peer-ca is given, and TLS needs both/],
    [[...TLS, "--insecure"], /--insecure is for a node without TLS/],
    [[...TLS, "--tls-peer-cert", "c", "--tls-peer-ca", "a"], /--tls-peer-cert and --tls-peer-key belong together/],
    [[...TLS, "--tls-peer-cert", "c", "--tls-peer-key", "k"], /needs their authority: give --tls-peer-ca/],
    [["--listen", "0.0.0.0:1"], /^error: --listen 0\.0\.0\.0:1: .*--insecure/],
    [["--listen", "127.0.0.1.example:1"], /^error: --listen .*--insecure/],
  ])("is refused for %j", (args, text) => {
    expect(refused([...BASE, ...args], settingsAsGiven)).toMatch(text);
  });
});

describe("automatic snapshots", () => {
  const snapshots = (...args: string[]) => settings([...BASE, ...args]).snapshots;
  const off = ["--snapshot-entries", "off", "--snapshot-log-bytes", "off"];

  test("are triggered by entries and by bytes by default, within the ratio, and not by age", () => {
    const { snapshotLogBytes: logBytes, snapshotLogRatio: logRatio } = limits;
    expect(snapshots()).toEqual({ entries: undefined, logBytes, logRatio, ageMs: false });
  });

  test("have a flag, an environment variable and a config key for each trigger", async () => {
    const flags = ["--snapshot-entries", "5", "--snapshot-log-bytes", "6", "--snapshot-log-ratio", "0.5"];
    const found = { entries: 5, logBytes: 6, logRatio: 0.5, ageMs: 3_600_000 };
    expect(snapshots(...flags, "--snapshot-age", "1h")).toEqual(found);
    const keys = { "snapshot-entries": 5, "snapshot-log-bytes": 6, "snapshot-log-ratio": 0.5, "snapshot-age": "1h" };
    expect(snapshots("--config", await configFile(keys))).toEqual(found);
    for (const [key, value] of Object.entries(keys)) {
      vi.stubEnv(`CAIRN_${key.toUpperCase().replaceAll("-", "_")}`, `${value}`);
    }
    expect(snapshots()).toEqual(found);
    expect(snapshots("--snapshot-entries", "off")).toEqual({ ...found, entries: false });
  });

  test("can be turned off one trigger at a time, and as a whole", () => {
    expect(snapshots("--snapshot-entries", "off")).toMatchObject({ entries: false });
    expect(snapshots("--snapshot-entries", "0")).toMatchObject({ entries: false });
    expect(snapshots("--snapshot-log-ratio", "off")).toMatchObject({ logRatio: false });
    expect(snapshots(...off)).toBe(false);
    expect(snapshots(...off, "--snapshot-age", "90s")).toMatchObject({
      entries: false,
      logBytes: false,
      ageMs: 90_000,
    });
  });

  test.each<[readonly string[], RegExp]>([
    [["--snapshot-entries", "-1"], /expected off, or a whole number from 1/],
    [["--snapshot-log-bytes", "1.5"], /expected off, or a whole number from 1/],
    [["--snapshot-log-ratio", "-1"], /expected off, or a number above 0/],
    [["--snapshot-log-ratio", "x"], /expected off, or a number above 0/],
    [["--snapshot-age", "5"], /expected off, or a time as 500ms, 30s, 15m, 1h or 1d/],
    [["--snapshot-age", "25d"], /expected off, or a time .* up to 24 days/],
    [["--pinned-log-bytes", "off"], /expected a whole number/],
  ])("are refused for %j", (args, text) => {
    expect(refused([...BASE, ...args])).toMatch(text);
  });

  test("the settings of cairn start say what floods may take", () => {
    const { connections, connectionsPerAddress, streams, requestBytes, answerBytes } = limits;
    const defaults = { connections, connectionsPerAddress, streams, requestBytes, answerBytes };
    expect(settings(BASE).limits).toEqual(defaults);
    const given = ["--max-connections", "5", "--max-connections-per-address", "4", "--max-streams", "3"];
    const bytes = ["--max-waiting-bytes", "10000000", "--max-unread-bytes", "20000000"];
    expect(settings([...BASE, ...given, ...bytes]).limits).toEqual({
      connections: 5,
      connectionsPerAddress: 4,
      streams: 3,
      requestBytes: 10_000_000,
      answerBytes: 20_000_000,
    });
    expect(refused([...BASE, "--max-waiting-bytes", "1000"])).toMatch(/expected a whole number from 8388608/);
  });

  test("the settings of cairn start say how much of the log is kept", () => {
    const { trailingLogBytes, pinnedLogBytes } = limits;
    expect(settings(BASE)).toMatchObject({ trailingLogBytes, pinnedLogBytes });
    expect(settings([...BASE, "--trailing-log-bytes", "1", "--pinned-log-bytes", "2"])).toMatchObject({
      trailingLogBytes: 1,
      pinnedLogBytes: 2,
    });
  });
});
