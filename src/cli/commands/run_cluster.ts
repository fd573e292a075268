import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { ClusterAdmin } from "../../client/admin/cluster_admin.js";
import type { ClientTls } from "../../client/security/connection.js";
import { memberList } from "../options/cluster_ids.js";
import { exitCodes } from "../output/exit_codes.js";
import { asStep, endStep } from "../output/progress.js";
import { type StopReason, untilSignal } from "../output/signals.js";
import type { ClusterOptions } from "./cluster.js";
import { checkCluster, clusterMembers, dataOf } from "./cluster_checks.js";
import { clientTls, tlsExamples, tlsFlags } from "./cluster_tls.js";

/** Time limit for a node to stop before it is killed, in milliseconds. */
const STOP_PATIENCE_MS = 10_000;

/**
 * Time limit for the followers to hear of a new cluster, and the pause between two looks, in
 * milliseconds.
 */
const FOLLOWERS_PATIENCE_MS = 10_000;
const FOLLOWERS_PAUSE_MS = 50;

/** Environment variables that would give the nodes settings of another cluster. */
const NOT_FOR_NODES = [
  "CAIRN_JOIN",
  "CAIRN_ADVERTISE",
  "CAIRN_CLUSTER_ID",
  "CAIRN_PEER_ADDRESSES",
  "CAIRN_INGRESS",
  "CAIRN_INGRESS_LISTEN",
  "CAIRN_HTTP",
  "CAIRN_CONFIG",
  "CAIRN_TLS_CERT",
  "CAIRN_TLS_KEY",
  "CAIRN_TLS_PEER_CERT",
  "CAIRN_TLS_PEER_KEY",
  "CAIRN_TLS_CLIENT_CA",
  "CAIRN_TLS_PEER_CA",
  "CAIRN_ACCESS",
  "CAIRN_PEER_TOKEN_FILE",
];

/**
 * Runs the nodes until a signal comes, then ends the process. No node outlives this process,
 * however it ends.
 */
export async function runCluster(options: ClusterOptions, flags: readonly string[]): Promise<void> {
  await checkCluster(options, flags);
  const signal = untilSignal();
  const nodes = Array.from({ length: options.nodes }, (_, at) => new ClusterNode(options, at, flags));
  let isRunning = false;
  let isStopping = false;
  for (const node of nodes) {
    void node.exited.then((how) => {
      if (isStopping) return;
      const advice = `It is not restarted automatically. To start it:\n  ${node.commandLine}`;
      complain(isRunning ? `${node.id} ${how}. ${advice}` : `${node.id} ${how}`);
    });
  }
  const stop = async () => {
    isStopping = true;
    await Promise.all(nodes.map((node) => node.stop()));
  };
  const listening = Promise.all(nodes.map((node) => node.listening));
  const failed = Promise.all(nodes.map((node) => node.exited)).then(() => "failed" as const);
  const started = await asStep("starting the nodes", {}, () =>
    Promise.race([listening.then(() => "listening" as const).catch(() => "failed" as const), signal]),
  );
  if (started !== "listening") {
    await stop();
    process.exit(started === "failed" ? exitCodes.failed : exitCodes.ok);
  }
  isRunning = true;
  await announce(options, nodes, signal);
  const end = await Promise.race([signal, failed]);
  if (end === "failed") complain("no node is running");
  await stop();
  process.exit(end === "failed" ? exitCodes.failed : exitCodes.ok);
}

class ClusterNode {
  readonly id: string;
  readonly address: string;
  /** Resolves with the way in which it ended, in words. */
  readonly exited: Promise<string>;
  /** Rejects when the node ends before it listens. */
  readonly listening: Promise<void>;
  /** URL of its page; undefined before it listens. */
  page: string | undefined;
  readonly #arguments: string[];
  readonly #process: ChildProcess;

  constructor(options: ClusterOptions, at: number, flags: readonly string[]) {
    const members = clusterMembers(options);
    ({ id: this.id, address: this.address } = members[at]!);
    const data = dataOf(options, at);
    this.#arguments = ["start", "--id", this.id, "--data", data, "--cluster", memberList(members).join(",")];
    // Any free port: two clusters on one machine must not get in each other's way.
    if (!flags.some((flag) => /^--http(=|$)/.test(flag))) this.#arguments.push("--http", "127.0.0.1:0");
    if (options.certs !== undefined) this.#arguments.push(...tlsFlags(options.certs, this.id));
    this.#arguments.push(...flags);
    // Standard error is for people, so the node's errors are text: no --json.
    const further = flags.some((flag) => /^--log-level(=|$)/.test(flag)) ? [] : ["--log-level", "error"];
    this.#process = spawn(process.execPath, [process.argv[1]!, ...this.#arguments, ...further], {
      env: Object.fromEntries(Object.entries(process.env).filter(([name]) => !NOT_FOR_NODES.includes(name))),
      // Over the channel, a node notices when this process is gone. The node is not in this
      // process's group, so Ctrl-C reaches it only through this process.
      stdio: ["ignore", "pipe", "inherit", "ipc"],
      detached: true,
    });
    this.exited = new Promise((resolve) => {
      this.#process.once("error", (error) => resolve(`could not be started: ${error.message}`));
      this.#process.once("exit", (code, signal) =>
        resolve(signal === null ? `ended with exit code ${code}` : `was ended by ${signal}`),
      );
    });
    this.listening = new Promise((resolve, reject) => {
      createInterface(this.#process.stdout!).on("line", (line) => {
        this.page ??= /shows itself on (https?:\S+)/.exec(line)?.[1];
        if (line.includes(" listens on ") || line.includes('"event":"listening"')) resolve();
      });
      void this.exited.then((how) => reject(new Error(`${this.id} ${how}`)));
    });
    this.listening.catch(() => {});
  }

  /** The command line with which a person starts this node. */
  get commandLine(): string {
    return ["cairn", ...this.#arguments].join(" ");
  }

  async stop(): Promise<void> {
    if (this.#process.connected) this.#process.disconnect();
    const timer = setTimeout(() => this.#process.kill("SIGKILL"), STOP_PATIENCE_MS);
    await this.exited;
    clearTimeout(timer);
  }
}

async function announce(
  { data, certs }: ClusterOptions,
  nodes: readonly ClusterNode[],
  signal: Promise<StopReason>,
): Promise<void> {
  const page = nodes.find((node) => node.page !== undefined)?.page;
  if (page !== undefined) print(`${page}/ shows the cluster`);
  print(`${nodes.length === 1 ? "a node runs" : `${nodes.length} nodes run`}, with data in ${data}`);
  for (const { id, address, page: own } of nodes) print(`  ${id}  ${address}${own === undefined ? "" : `  ${own}/`}`);
  const tls = certs === undefined ? undefined : clientTls(certs);
  const admin = new ClusterAdmin(
    nodes.map(({ address }) => address),
    { tls },
  );
  const found = leaderOfAll(admin).catch(() => undefined);
  const leader = await asStep("waiting for a leader", {}, () => Promise.race([found, signal.then(() => undefined)]));
  admin.close();
  if (leader === undefined) return;
  print(`${nodes.find(({ address }) => address === leader)?.id ?? leader} leads`);
  print(examples(leader, nodes, tls));
}

/** Resolves with the leader's address when all nodes take calls. */
async function leaderOfAll(admin: ClusterAdmin): Promise<string> {
  const leader = await admin.onLeader(async (_, address) => address);
  const deadline = performance.now() + FOLLOWERS_PATIENCE_MS;
  while ((await admin.look()).hasNewNode && performance.now() < deadline) await pause(FOLLOWERS_PAUSE_MS);
  return leader;
}

function examples(address: string, nodes: readonly ClusterNode[], tls: ClientTls | undefined): string {
  const endpoints = nodes.map((node) => node.address).join(",");
  if (tls !== undefined) return tlsExamples(address, endpoints, tls);
  const curl = "npx buf curl --protocol grpc --http2-prior-knowledge";
  return `
To try it:
  export CAIRN_ENDPOINTS=${endpoints}
  npx cairn kv put x 1
  npx cairn kv get x
  npx cairn status
with grpcurl (in JSON, bytes are base64: eA== is x, MQ== is 1):
  grpcurl -plaintext ${address} list
  grpcurl -plaintext -d '{"key":"eA==","value":"MQ=="}' ${address} cairn.v1.KeyValueService/Put
  grpcurl -plaintext -d '{"key":"eA=="}' ${address} cairn.v1.KeyValueService/Get
  grpcurl -plaintext ${address} cairn.v1.AdminService/GetStatus
or, from this checkout, with buf:
  ${curl} -d '{"key":"eA==","value":"MQ=="}' http://${address}/cairn.v1.KeyValueService/Put
  ${curl} -d '{"key":"eA=="}' http://${address}/cairn.v1.KeyValueService/Get
Ctrl-C stops all.`;
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

function complain(text: string): void {
  endStep();
  process.stderr.write(`cairn cluster: ${text}\n`);
}
