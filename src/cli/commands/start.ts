import { Command, Option } from "commander";
import { TIMER_MS_MAX } from "../../base/arguments.js";
import { limits } from "../../base/limits.js";
import { stateKinds } from "../../server/kv/state_kind.js";
import { tlsOptions } from "../options/node_tls.js";
import {
  address,
  addressList,
  durationOrOff,
  factorOrOff,
  idText,
  listenAddress,
  logLevelOption,
  namedAddresses,
  nameList,
  nonEmpty,
  wholeNumber,
  wholeNumberOrOff,
} from "../options/options.js";
import { lostDiskModes, type StartOptions, settingsOf } from "../options/start_settings.js";
import { reportAsJson } from "../output/report.js";

const ANY = limits.countMax;

const EXAMPLES = `
A setting without a flag is taken from the environment, then from the config file, then from the defaults. The config file is a JSON object whose
keys are the flags' names: {"id": "n1", "data": "/var/lib/cairn", "snapshot-entries": 10000}

A new cluster of three, each started with the same list. It is founded when all of them have been started, once; until then they say for whom they wait:
  cairn start --id n1 --data ./n1 --cluster n1=10.0.0.1:7101,n2=10.0.0.2:7101,n3=10.0.0.3:7101
A further node, which catches up first and votes when "cairn member promote n4" says so:
  cairn start --id n4 --data ./n4 --listen 10.0.0.4:7101 --join 10.0.0.1:7101
Later, the data directory says who the node is and whom it belongs to; --cluster and --join may stay or be left out.
A node that lost its disk is started on an empty directory with the command line of its first start, and comes back by itself; one that was removed, with --join.
Without --cluster and --join, a new directory founds a cluster of one. Never put an old copy of a member's directory back: see docs/operations.md.`;

/** Defines `cairn start`, which runs a node. */
export function startCommand(): Command {
  const command = new Command("start")
    .description("Run a node until SIGINT or SIGTERM. A node that leads hands its leadership over before it stops.")
    .addOption(setting("id", "<name>", "name of the node in its cluster (A-Z a-z 0-9 . _ -)").argParser(idText))
    .addOption(setting("data", "<dir>", "data directory, created when it does not exist").argParser(nonEmpty))
    .addOption(
      setting(
        "listen",
        "<host:port>",
        "where to serve gRPC; port 0 takes a free one (default: its address in --cluster, else 127.0.0.1:7101)",
      ).argParser(listenAddress),
    )
    .addOption(
      number(
        "ingress",
        "processes that serve clients, so that HTTP/2 and protobuf of their calls use further cores; needs --ingress-listen",
        0,
        limits.ingressProcesses,
        0,
      ),
    )
    .addOption(
      setting(
        "ingress-listen",
        "<host:port>",
        "where the ingress processes serve clients; port 0 takes a free one. The other members use --listen",
      ).argParser(listenAddress),
    )
    .addOption(
      setting(
        "http",
        "<host:port>",
        "where to serve metrics, health and a page for operators over HTTP; port 0 takes a free one (default: not at all)",
      ).argParser(listenAddress),
    )
    .addOption(
      setting("http-hosts", "<list>", "names by which browsers reach --http through a proxy: name,name").argParser(
        nameList,
      ),
    )
    .addOption(
      setting("advertise", "<host:port>", "where the other members reach it (default: as --listen)").argParser(address),
    )
    .addOption(
      setting(
        "cluster",
        "<list>",
        "found a cluster of n1=host:port,n2=host:port,..., the same list on all, once all of them run",
      ).argParser(namedAddresses),
    )
    .addOption(
      setting(
        "join",
        "<list>",
        "join the cluster that has a member at one of host:port,host:port; waits until one answers",
      ).argParser(addressList),
    )
    .addOption(
      setting(
        "peer-addresses",
        "<list>",
        "where to reach members from here, if not where the cluster says: n2=host:port,...",
      ).argParser(namedAddresses),
    )
    .addOption(
      setting(
        "cluster-id",
        "<id>",
        "cluster that the node belongs to (default: what the directory says; drawn when a cluster is founded, so only --elections manual takes it for a new directory)",
      ).argParser(idText),
    )
    .addOption(
      setting("elections", "<mode>", "campaign by timer, or only when AdminService.Campaign says so")
        .choices(["automatic", "manual"])
        .default("automatic"),
    )
    .addOption(
      setting("reads", "<mode>", "how linearizable reads are confirmed, the same on all members")
        .choices(["quorum", "lease"])
        .default("quorum"),
    )
    .addOption(number("tick-ms", "length of a tick; a leader sends heartbeats every tick", 1, 60_000, 100))
    .addOption(
      number("election-ticks", "ticks without a leader, up to twice as many, until a node campaigns", 2, 1_000, 10),
    )
    .addOption(
      trigger(
        "snapshot-entries",
        "<n>",
        "take a snapshot when this many entries were applied since the last one " +
          `(default: ${limits.snapshotEntries}, and as many as --snapshot-log-ratio asks for)`,
        wholeNumberOrOff(1, ANY),
      ),
    )
    .addOption(
      trigger(
        "snapshot-log-bytes",
        "<n>",
        "when the log since the last one has this many bytes, or more if --snapshot-log-ratio asks for more",
        wholeNumberOrOff(1, ANY),
      ).default(limits.snapshotLogBytes),
    )
    .addOption(
      trigger(
        "snapshot-log-ratio",
        "<x>",
        "for size, only when the log since the last one is x times as large as that one",
        factorOrOff,
      ).default(limits.snapshotLogRatio),
    )
    .addOption(
      trigger(
        "snapshot-age",
        "<time>",
        "when the last one is this old (30m, 1h), and something was applied since",
        durationOrOff,
      ).default(false, "off"),
    )
    .addOption(
      number(
        "trailing-log-bytes",
        "bytes of log to keep behind a snapshot for slow followers",
        0,
        ANY,
        limits.trailingLogBytes,
      ),
    )
    .addOption(
      setting(
        "snapshot-bandwidth",
        "<n>",
        "bytes per second of all snapshots that are being sent (default: no limit)",
      ).argParser(wholeNumber(limits.transferBandwidthLeast, ANY)),
    )
    .addOption(
      setting("snapshot-compression", "<mode>", "how to compress snapshots that are being sent")
        .choices(["none", "deflate"])
        .default("none"),
    )
    .addOption(
      number(
        "pinned-log-bytes",
        "bytes of log to keep, at most, for followers that are being sent a snapshot",
        0,
        ANY,
        limits.pinnedLogBytes,
      ),
    )
    .addOption(
      number(
        "segment-bytes",
        "size of a log segment; trimming removes whole segments",
        limits.entryBytes * 2 + 1,
        ANY,
        limits.segmentBytes,
      ),
    )
    .addOption(
      number(
        "max-connections",
        "connections of clients at a time, beside those of members",
        1,
        ANY,
        limits.connections,
      ),
    )
    .addOption(
      number("max-connections-per-address", "the same, from one address", 1, ANY, limits.connectionsPerAddress),
    )
    .addOption(number("max-streams", "calls and streams of clients at a time", 1, ANY, limits.streams))
    .addOption(
      number(
        "max-waiting-bytes",
        "bytes of requests that the node holds for clients; beyond that it refuses them for a moment",
        limits.messageBytes * 2,
        ANY,
        limits.requestBytes,
      ),
    )
    .addOption(
      number(
        "max-unread-bytes",
        "bytes of answers that clients have not read; beyond that reads wait, and slow readers are cut off",
        limits.messageBytes * 2,
        ANY,
        limits.answerBytes,
      ),
    )
    .addOption(
      setting("state", "<kind>", "how to keep the state on disk: in LMDB, or in Cairn's own store, which is new")
        .choices(stateKinds)
        .default("lmdb"),
    )
    .addOption(
      setting(
        "lost-disk",
        "<mode>",
        "after the loss of acknowledged data: rejoin as a new member that votes when it has caught up, or refuse to run",
      )
        .choices(lostDiskModes)
        .default("rejoin"),
    )
    .addOption(
      number(
        "heal-timeout-ms",
        "how long to ask the other members for a snapshot when those on disk are damaged; 0: not at all",
        0,
        TIMER_MS_MAX,
        60_000,
      ),
    )
    .addOption(
      setting(
        "access",
        "<file>",
        "who may do what, in JSON: with it, everybody else is refused (default: everybody may do everything); a changed file is read again",
      ).argParser(nonEmpty),
    )
    .addOption(
      setting(
        "peer-token-file",
        "<file>",
        "token by which the members know each other where they have no certificates: that of a caller with the role peer",
      ).argParser(nonEmpty),
    )
    .addOption(new Option("--config <file>", "JSON file with settings").env("CAIRN_CONFIG").argParser(nonEmpty))
    .option("--json", "print JSON objects instead of text, a line each")
    .addOption(logLevelOption("warn").env("CAIRN_LOG_LEVEL"))
    .addHelpText("after", EXAMPLES)
    .action(async (options: StartOptions, command: Command) => {
      const settings = settingsOf(options, command);
      if (settings.json) reportAsJson();
      const { runNode } = await import("./run_node.js");
      await runNode(settings);
    });
  for (const option of tlsOptions()) command.addOption(option);
  return command;
}

/** Returns an option that the environment may set, too: CAIRN_CLUSTER_ID for --cluster-id. */
function setting(name: string, argument: string, description: string): Option {
  return new Option(`--${name} ${argument}`, description).env(`CAIRN_${name.toUpperCase().replaceAll("-", "_")}`);
}

/** Returns an option that makes a node take a snapshot; `off` turns it off. */
function trigger(name: string, argument: string, description: string, parse: (text: string) => number | false): Option {
  return setting(name, argument.replace(">", "|off>"), description).argParser(parse);
}

function number(name: string, description: string, least: number, most: number, preset: number): Option {
  return setting(name, "<n>", description).argParser(wholeNumber(least, most)).default(preset);
}
