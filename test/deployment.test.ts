import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import { startCommand } from "../src/cli/commands/start.js";
import { routesOf } from "../src/monitor/routes.js";
import { temporaryDirectory } from "./support/disk/temporary_directory.js";
import { DocumentShell } from "./support/processes/document_shell.js";
import { freePorts } from "./support/processes/process_cluster.js";
import {
  inRepository,
  type RunningCommand,
  runCommand,
  startCommand as startCairn,
  startProcess,
} from "./support/processes/processes.js";
import { blocksOf, readDocument } from "./support/repository/documents.js";

// Holds the files of docs/deploy to the command line, and runs their commands as processes: there is no container engine here.

const UNIT = "docs/deploy/cairn.service";
const options = startCommand().options;
const flags = options.map(({ long }) => long);
const variables = options.map(({ envVar }) => envVar);
const paths = [...routesOf({} as never).keys()];

type Environment = Readonly<Record<string, string>>;

/** One node as a file describes it. */
interface DescribedNode {
  readonly id: string;
  readonly args: readonly string[];
  readonly env: Environment;
}

// systemd

/** The settings of a unit; a name may come more than once. */
function unitSettings(text: string): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const [, name, value] of text.matchAll(/^([A-Za-z]+)=(.*)$/gm)) {
    found.set(name!, [...(found.get(name!) ?? []), value!]);
  }
  return found;
}

function envFile(path: string): Environment {
  return Object.fromEntries(
    [...readDocument(path).matchAll(/^([A-Z_]+)=(.*)$/gm)].map(([, name, value]) => [name, value]),
  );
}

/** The nodes of a cluster of three whose machines have the file, each with its own name and address. */
function systemdNodes(): DescribedNode[] {
  const [command] = unitSettings(readDocument(UNIT)).get("ExecStart")!;
  const [program, ...args] = command!.split(" ");
  expect(program).toMatch(/\/cairn$/);
  const env = envFile("docs/deploy/cairn.env");
  return [1, 2, 3].map((number) => ({
    id: `n${number}`,
    args,
    env: { ...env, CAIRN_ID: `n${number}`, CAIRN_LISTEN: `10.0.0.${number}:7101` },
  }));
}

// Containers

interface ComposeService {
  readonly image: string;
  readonly command: readonly string[];
  readonly environment?: Environment;
  readonly ports?: readonly string[];
  readonly volumes: readonly string[];
  readonly stop_grace_period?: string;
}

function composeServices(): Record<string, ComposeService> {
  const file = parse(readDocument("docs/deploy/compose.yml"), { merge: true });
  return (file as { services: Record<string, ComposeService> }).services;
}

/** What the container file sets for all nodes. */
function imageEnvironment(): Environment {
  const [, text] = /^ENV (.*)$/m.exec(readDocument("docs/deploy/Containerfile"))!;
  return Object.fromEntries(text!.split(" ").map((pair) => pair.split("=") as [string, string]));
}

function composeNodes(): DescribedNode[] {
  return Object.entries(composeServices())
    .filter(([name]) => name !== "certs")
    .map(([id, { command, environment }]) => ({ id, args: command, env: { ...imageEnvironment(), ...environment } }));
}

// Kubernetes

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  // biome-ignore lint/suspicious/noExplicitAny: each kind has another one.
  readonly spec: any;
}

function manifests(): Manifest[] {
  return parseAllDocuments(readDocument("docs/deploy/kubernetes.yaml")).map((each) => each.toJS() as Manifest);
}

function manifest(kind: string, name = "cairn"): Manifest {
  const found = manifests().find((each) => each.kind === kind && each.metadata.name === name);
  if (found === undefined) throw new Error(`there is no ${kind} ${name}`);
  return found;
}

function container() {
  const { containers } = manifest("StatefulSet").spec.template.spec;
  expect(containers).toHaveLength(1);
  return containers[0];
}

function kubernetesNodes(): DescribedNode[] {
  const { replicas } = manifest("StatefulSet").spec;
  const { args, env } = container();
  return Array.from({ length: replicas }, (_, at) => {
    const own: Record<string, string> = {};
    for (const { name, value, valueFrom } of env) {
      if (valueFrom !== undefined) expect(valueFrom).toEqual({ fieldRef: { fieldPath: "metadata.name" } });
      // Kubernetes puts the variables before this one in the place of their names.
      own[name] = (value ?? `cairn-${at}`).replaceAll(/\$\((\w+)\)/g, (_: string, known: string) => own[known]);
    }
    return { id: `cairn-${at}`, args, env: { ...imageEnvironment(), ...own } };
  });
}

describe("each node that a file of docs/deploy describes", () => {
  test.each([
    ["systemd", systemdNodes],
    ["compose", composeNodes],
    ["kubernetes", kubernetesNodes],
  ])("has settings that cairn start knows: %s", (_, nodesOf) => {
    const nodes = nodesOf();
    expect(nodes).toHaveLength(3);
    for (const { args, env } of nodes) {
      expect(args[0]).toBe("start");
      expect(args.filter((arg) => arg.startsWith("--") && !flags.includes(arg))).toEqual([]);
      const own = Object.keys(env).filter((name) => name.startsWith("CAIRN_"));
      expect(own.filter((name) => !variables.includes(name))).toEqual([]);
      for (const name of ["CAIRN_CLUSTER", "CAIRN_DATA", "CAIRN_TLS_CERT", "CAIRN_TLS_PEER_CA", "CAIRN_HTTP"]) {
        expect(own, name).toContain(name);
      }
    }
  });
});

describe("docs/deploy/cairn.service", () => {
  const settings = unitSettings(readDocument(UNIT));
  const one = (name: string) => settings.get(name)?.[0];

  test("stops the node by the signal that makes it hand over, and waits for longer than that takes", () => {
    expect(one("KillSignal")).toBe("SIGTERM");
    // Ingress processes ignore signals.
    expect(one("KillMode")).toBe("mixed");
    expect(Number(one("TimeoutStopSec"))).toBeGreaterThan(20);
  });

  test("does not try again what can only fail again: a wrong command line", async () => {
    const { code } = await runCommand(["start", "--id", "a b", "--data", "nowhere"]);
    expect(one("RestartPreventExitStatus")).toBe(`${code}`);
    expect(one("Restart")).toBe("on-failure");
  });

  test("keeps the data directory of its environment writable, and nothing else", () => {
    expect(one("ProtectSystem")).toBe("strict");
    expect(envFile("docs/deploy/cairn.env").CAIRN_DATA).toBe(`/var/lib/${one("StateDirectory")}`);
    expect(one("EnvironmentFile")).toBe("/etc/cairn/cairn.env");
    expect(settings.has("ReadWritePaths")).toBe(false);
    // V8 makes machine code at run time.
    expect(settings.has("MemoryDenyWriteExecute")).toBe(false);
  });

  test("is a unit that systemd takes, as well protected as the page says", async () => {
    if (spawnSync("systemd-analyze", ["--version"]).status !== 0) {
      console.log("skipped, there is no systemd-analyze: the unit is not verified");
      return;
    }
    const directory = await temporaryDirectory();
    const unit = join(directory, "cairn.service");
    // The command need not be installed here.
    await writeFile(unit, readDocument(UNIT).replace("/usr/bin/cairn", "/bin/true"));
    const verified = spawnSync("systemd-analyze", ["verify", unit], { encoding: "utf8" });
    expect(verified.stderr).toBe("");
    expect(verified.status).toBe(0);
    const rated = spawnSync("systemd-analyze", ["security", "--offline=true", unit], { encoding: "utf8" });
    const [, rating] = /exposure level for cairn.service: ([\d.]+)/.exec(rated.stdout) ?? [];
    if (rating === undefined) console.log("skipped, this systemd-analyze rates no unit offline");
    else
      expect(Number(rating)).toBeLessThanOrEqual(
        Number(/rates the unit ([\d.]+\d)/.exec(readDocument("docs/deployment.md"))?.[1]),
      );
  });
});

describe("docs/deploy/Containerfile", () => {
  const text = readDocument("docs/deploy/Containerfile");

  test("copies what exists, and all that the build reads", () => {
    const copied = [...text.matchAll(/^COPY (?!--from)(.*)$/gm)].flatMap(([, what]) => what!.split(" ").slice(0, -1));
    expect(copied.filter((path) => !existsSync(inRepository(path)))).toEqual([]);
    const inputs = [...readDocument("build.mjs").matchAll(/"((?:src|gen|tsconfig|package)[\w.-]*)/g)].map(
      ([, path]) => path!,
    );
    expect(inputs.filter((path) => !copied.includes(path))).toEqual([]);
  });

  test("runs the command as a user, without a shell, on a Node that the package allows", () => {
    const { bin, engines } = JSON.parse(readDocument("package.json"));
    expect(text).toContain(`ln -s /opt/cairn/${bin.cairn} /usr/local/bin/cairn`);
    expect(text).toMatch(/^USER node$/m);
    expect(text).toMatch(/^ENTRYPOINT \["cairn"\]\nCMD \["start"\]$/m);
    expect(engines.node).toBe(">=20.15");
    expect(text.match(/^FROM .*$/gm)).toEqual([
      "FROM docker.io/library/node:20-slim AS build",
      "FROM docker.io/library/node:20-slim",
    ]);
  });

  test("exposes the ports of the other files", () => {
    expect(text).toMatch(/^EXPOSE 7101 7180$/m);
    expect(imageEnvironment().CAIRN_HTTP).toMatch(/:7180$/);
  });
});

describe("docs/deploy/compose.yml", () => {
  test("gives each node a volume, and ports of the machine that differ", () => {
    const nodes = Object.entries(composeServices()).filter(([name]) => name !== "certs");
    for (const [name, { volumes, stop_grace_period, environment }] of nodes) {
      expect(volumes).toContain(`${name}:${imageEnvironment().CAIRN_DATA}`);
      expect(Number.parseInt(stop_grace_period!, 10)).toBeGreaterThan(20);
      expect(environment!.CAIRN_CLUSTER).toContain(`${name}=${name}:7101`);
    }
    const ports = nodes.flatMap(([, service]) => service.ports!);
    expect(new Set(ports).size).toBe(6);
    // Nobody else's machine reaches them.
    expect(ports.filter((port) => !port.startsWith("127.0.0.1:"))).toEqual([]);
  });
});

describe("docs/deploy/kubernetes.yaml", () => {
  test("probes paths that exist, by the protocol that a node with certificates speaks", () => {
    const { livenessProbe, readinessProbe, ports } = container();
    for (const { httpGet } of [livenessProbe, readinessProbe]) {
      expect(paths).toContain(httpGet.path);
      expect(httpGet.scheme).toBe("HTTPS");
      expect(ports).toContainEqual({ name: httpGet.port, containerPort: 7180 });
    }
    expect(livenessProbe.httpGet.path).toBe("/healthz");
    expect(readinessProbe.httpGet.path).toBe("/readyz");
  });

  test("has a headless Service whose names are those of the cluster, also before pods are ready", () => {
    const { clusterIP, publishNotReadyAddresses, selector } = manifest("Service").spec;
    expect({ clusterIP, publishNotReadyAddresses }).toEqual({ clusterIP: "None", publishNotReadyAddresses: true });
    const { serviceName, podManagementPolicy, template, replicas } = manifest("StatefulSet").spec;
    expect({ serviceName, podManagementPolicy }).toEqual({ serviceName: "cairn", podManagementPolicy: "Parallel" });
    expect(template.metadata.labels).toEqual(selector);
    const [first] = kubernetesNodes();
    const named = Array.from({ length: replicas }, (_, at) => `cairn-${at}=cairn-${at}.${serviceName}:7101`);
    expect(first!.env.CAIRN_CLUSTER).toBe(named.join(","));
  });

  test("lets one pod at a time be stopped, puts no two on one machine, and keeps each one's volume", () => {
    const { spec } = manifest("StatefulSet");
    expect(manifest("PodDisruptionBudget").spec).toMatchObject({ maxUnavailable: 1, selector: spec.selector });
    const [rule] = spec.template.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution;
    expect(rule).toMatchObject({ topologyKey: "kubernetes.io/hostname", labelSelector: spec.selector });
    const mounted: readonly { name: string; mountPath: string }[] = container().volumeMounts;
    const data = mounted.find(({ mountPath }) => kubernetesNodes()[0]!.env.CAIRN_DATA!.startsWith(mountPath));
    expect(spec.volumeClaimTemplates.map((each: Manifest) => each.metadata.name)).toEqual([data?.name]);
    expect(spec.template.spec.terminationGracePeriodSeconds).toBeGreaterThan(20);
    expect(manifest("NetworkPolicy").spec.podSelector).toEqual(spec.selector);
  });
});

describe("a cluster of the nodes of", () => {
  /** Runs the certificates' commands of a chapter of the page; they are then in certs/. */
  async function certificates(directory: string, script: string): Promise<void> {
    const shell = await DocumentShell.start({ document: "" });
    try {
      await shell.run(`cd ${directory}\n${script}`);
    } finally {
      await shell.close();
    }
  }

  const KUBERNETES_CERTS = blocksOf("docs/deployment.md", "Kubernetes")
    .filter(({ language }) => language === "sh")
    .flatMap(({ text }) => text.split("\n"))
    .filter((line) => !line.startsWith("kubectl"))
    .join("\n");
  const [composeCerts] = composeServices().certs!.command;

  const DEV = { peerCa: "certs/peer-authority/authority.crt", client: "certs/clients/admin" };

  test.each([
    {
      file: "cairn.service",
      nodes: systemdNodes(),
      script: "cairn certs dev --out certs",
      place: (path: string, id: string) =>
        path
          .replace("/etc/cairn/tls/node.", `certs/nodes/${id}.`)
          .replace("/etc/cairn/tls/peers.crt", DEV.peerCa)
          .replace("/etc/cairn/tls/clients.crt", "certs/client-authority/authority.crt"),
      ...DEV,
    },
    {
      file: "compose.yml",
      nodes: composeNodes(),
      script: composeCerts!.replaceAll("/certs", "certs"),
      place: (path: string) => path.replace("/certs/", "certs/"),
      ...DEV,
    },
    {
      file: "kubernetes.yaml",
      nodes: kubernetesNodes(),
      script: `${KUBERNETES_CERTS}\ncairn certs client --authority ca/clients --name admin --out certs`,
      place: (path: string) => path.replace("/etc/cairn/tls/", "certs/"),
      peerCa: "certs/peers.crt",
      client: "certs/admin",
    },
  ])(
    "$file is founded, is healthy, takes a write, and stops by SIGTERM",
    { timeout: 120_000 },
    async ({ nodes, script, place, ...own }) => {
      const directory = await temporaryDirectory();
      await certificates(directory, script);
      const [grpc, http] = [await freePorts(nodes.length), await freePorts(nodes.length)];
      const addresses = new Map(
        nodes[0]!.env.CAIRN_CLUSTER!.split(",").map((each, at) => [each.split("=")[1]!, `127.0.0.1:${grpc[at]}`]),
      );
      // What a container, its volumes and its network would do.
      const envOf = ({ id, env }: DescribedNode, at: number): Environment => ({
        ...env,
        ...Object.fromEntries(
          Object.entries(env)
            .filter(([name]) => name.startsWith("CAIRN_TLS_"))
            .map(([name, path]) => [name, place(path, id)]),
        ),
        CAIRN_CLUSTER: [...addresses].reduce((text, [from, to]) => text.replace(from, to), env.CAIRN_CLUSTER!),
        CAIRN_LISTEN: `127.0.0.1:${grpc[at]}`,
        CAIRN_HTTP: `127.0.0.1:${http[at]}`,
        CAIRN_DATA: join(directory, "data", id),
      });
      await mkdir(join(directory, "data"));
      const running: RunningCommand[] = nodes.map((node, at) =>
        startCairn(node.args, { cwd: directory, env: envOf(node, at) }),
      );
      await Promise.all(running.map((each) => each.waitFor(/has founded cluster|now belongs to cluster/)));
      const client = [
        ...["--endpoints", grpc.map((port) => `127.0.0.1:${port}`).join(",")],
        ...["--tls-ca", own.peerCa, "--tls-cert", `${own.client}.crt`, "--tls-key", `${own.client}.key`],
      ];
      const put = await runCommand(["kv", "put", "k", "v", ...client], { cwd: directory });
      expect(put.code, put.stderr).toBe(0);
      for (const [at, node] of nodes.entries()) {
        const check = startProcess(process.execPath, [inRepository("docs/deploy/healthcheck.mjs")], {
          cwd: directory,
          env: envOf(node, at),
        });
        expect(await check.ended()).toEqual({ code: 0, signal: null });
      }
      const ends = running.map((each) => each.kill("SIGTERM"));
      expect(await Promise.all(ends)).toEqual(nodes.map(() => ({ code: 0, signal: null })));
    },
  );

  test("no node is unhealthy, as the container's check says", async () => {
    const [port] = await freePorts(1);
    const check = startProcess(process.execPath, [inRepository("docs/deploy/healthcheck.mjs")], {
      env: { CAIRN_HTTP: `127.0.0.1:${port}` },
    });
    expect(await check.ended()).toEqual({ code: 1, signal: null });
  });
});
