import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, posix, relative, resolve, sep } from "node:path";
import { describe, expect, test } from "vitest";
import { importsOf } from "./support/repository/source_text.js";

const root = resolve(import.meta.dirname, "..");

/** Lines of code after which a source file certainly holds a second idea. Comments and empty lines do not count. */
const MAX_LINES = 350;

/** Most source files in one folder. */
const MAX_FILES = 14;

/** The rooms of src/, from the ground up, and what each may import besides itself. Packages are anyone's. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  base: [],
  system: ["base"],
  raft: ["base"],
  encoding: ["base", "raft", "gen"],
  rpc: ["base"],
  storage: ["base", "system", "raft", "encoding"],
  store: ["base", "system", "raft", "gen"],
  machine: ["base", "system", "raft", "encoding", "store", "gen"],
  peers: ["base", "raft", "encoding", "rpc", "gen"],
  node: ["base", "system", "raft", "encoding", "storage", "machine", "peers"],
  server: ["base", "system", "raft", "encoding", "rpc", "storage", "machine", "peers", "node", "gen"],
  client: ["base", "system", "rpc", "gen"],
  certificates: ["base", "system", "rpc"],
  ingress: ["base", "system", "rpc", "server", "gen"],
  monitor: ["base", "system", "raft", "rpc", "machine", "node", "server", "gen"],
  daemon: [
    "base",
    "system",
    "raft",
    "encoding",
    "rpc",
    "storage",
    "machine",
    "peers",
    "node",
    "server",
    "client",
    "ingress",
    "monitor",
    "gen",
  ],
  page: ["node", "monitor"],
  gateway: ["base", "system", "raft", "encoding", "rpc", "machine", "peers", "node", "server", "client", "gen"],
  "client.ts": ["base", "system", "client"],
  "server.ts": ["base", "system", "machine", "server", "gen"],
  "index.ts": [
    "base",
    "system",
    "raft",
    "encoding",
    "storage",
    "machine",
    "peers",
    "node",
    "server",
    "daemon",
    "client.ts",
  ],
  cli: [
    "base",
    "system",
    "raft",
    "encoding",
    "storage",
    "machine",
    "peers",
    "node",
    "server",
    "client",
    "daemon",
    "gateway",
    "client.ts",
    "certificates",
    "gen",
  ],
};

/** Folders within a room, and those beside them that each may import. What lies in the room itself serves them all. */
const mayImportBeside: Readonly<Record<string, readonly string[]>> = {
  "raft/membership": [],
  "raft/leader": ["raft/membership"],
  "rpc/credentials": [],
  "rpc/floods": [],
  "rpc/security": ["rpc/credentials"],
  "storage/wal": [],
  "storage/snapshots": [],
  "machine/kv": [],
  "machine/kv/hot": [],
  "machine/kv/effects": [],
  "machine/kv/leases": ["machine/kv/effects"],
  "machine/kv/txn": ["machine/kv/effects", "machine/kv/leases"],
  "machine/lmdb": ["machine/kv"],
  "machine/lmdb/effects": ["machine/kv"],
  "machine/lmdb/leases": ["machine/kv", "machine/kv/leases"],
  "machine/worker": ["machine/kv", "machine/lmdb"],
  "machine/store": ["machine/kv", "machine/kv/effects", "machine/kv/leases", "machine/kv/txn"],
  "store/rules": [],
  "store/memory": ["store/rules"],
  "store/tables": ["store/rules"],
  "store/levels": ["store/rules", "store/memory", "store/tables"],
  "store/steps": ["store/rules", "store/memory", "store/tables", "store/levels"],
  "peers/append": [],
  "peers/install": [],
  "node/open": [],
  "node/measures": [],
  "node/requests": ["node/measures"],
  "node/snapshots": ["node/measures", "node/open", "node/requests"],
  "node/health": ["node/measures", "node/requests", "node/snapshots"],
  "server/discovery": [],
  "monitor/feed": [],
  "monitor/metrics": [],
  "daemon/application": [],
  "server/access": [],
  "server/kv": ["server/access"],
  "server/leases": ["server/kv", "server/access"],
  "server/watch": ["server/access"],
  "server/machine": [],
  "server/admin": ["server/kv"],
  "client/security": [],
  "client/session": [],
  "client/admin": ["client/security"],
  "client/txn": [],
  "client/watch": [],
  "client/leases": ["client/security"],
  "client/locks": ["client/txn", "client/watch", "client/leases"],
  "cli/output": [],
  "cli/options": ["cli/output"],
  "cli/commands": ["cli/options", "cli/output"],
  "cli/commands/certs": ["cli/options", "cli/output"],
  "cli/commands/access": ["cli/options", "cli/output"],
  "cli/commands/snapshot": ["cli/options", "cli/output"],
  "cli/commands/wal": ["cli/options", "cli/output"],
  "cli/commands/doctor": ["cli/options", "cli/output"],
  "cli/commands/completion": [],
  "cli/commands/kv": ["cli/options", "cli/output"],
  "cli/commands/bench": ["cli/options", "cli/output", "cli/commands/kv"],
  "cli/commands/locks": ["cli/options", "cli/output", "cli/commands/kv"],
};

interface SourceFile {
  /** Below the repository, with slashes: src/raft/raft.ts. */
  readonly path: string;
  readonly source: string;
}

interface Edge {
  readonly from: string;
  readonly to: string;
  readonly typeOnly: boolean;
}

/** The imports between files of the repository. */
function edgesOf(files: readonly SourceFile[]): Edge[] {
  return files.flatMap(({ path, source }) =>
    importsOf(source)
      .filter(({ specifier }) => specifier.startsWith("."))
      .map(({ specifier, typeOnly }) => ({
        from: path,
        to: posix.join(posix.dirname(path), specifier).replace(/\.js$/, ".ts"),
        typeOnly,
      })),
  );
}

/** The folder of src (or file right below it) that a file belongs to; for anything else its top folder. */
function partOf(path: string): string {
  const [top, second] = path.split("/");
  return top === "src" ? second! : top!;
}

/** The folder of src that holds a file. */
function folderOf(path: string): string {
  return posix.dirname(path).replace(/^src\/?/, "");
}

function isWithin(folder: string, outer: string): boolean {
  return folder === outer || folder.startsWith(`${outer}/`);
}

function isAllowed({ from, to }: Edge): boolean {
  const [part, target] = [partOf(from), partOf(to)];
  if (part !== target) return (mayImport[part] ?? []).includes(target);
  const [folder, other] = [folderOf(from), folderOf(to)];
  // From the room itself into its folders, and back; what is beside a folder has its rule.
  if (isWithin(other, folder) || isWithin(folder, other)) return true;
  return (mayImportBeside[folder] ?? []).some((each) => isWithin(other, each));
}

function groupBy<Item>(items: readonly Item[], keyOf: (item: Item) => string): Map<string, Item[]> {
  const groups = new Map<string, Item[]>();
  for (const item of items) groups.set(keyOf(item), [...(groups.get(keyOf(item)) ?? []), item]);
  return groups;
}

/** The groups of files that import each other in a circle. */
function cyclesOf(edges: readonly Edge[]): string[][] {
  const imported = groupBy(edges, (edge) => edge.from);
  const reach = (start: string): Set<string> => {
    const seen = new Set<string>();
    const queue = [start];
    for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
      for (const { to } of imported.get(file) ?? []) {
        if (seen.has(to)) continue;
        seen.add(to);
        queue.push(to);
      }
    }
    return seen;
  };
  const reached = new Map([...imported.keys()].map((file) => [file, reach(file)]));
  const circular = [...reached].filter(([file, files]) => files.has(file)).map(([file]) => file);
  const groups = groupBy(circular, (file) =>
    [...circular.filter((other) => reached.get(file)!.has(other) && reached.get(other)!.has(file))].sort().join(" "),
  );
  return [...groups.keys()].map((group) => group.split(" "));
}

/** The names of the types that a file declares, and of the functions and constants that it exports. */
function namesOf(source: string): string[] {
  const types = source.matchAll(/^(?:export )?(?:abstract )?(?:interface|type|class|enum) ([A-Z]\w*)/gm);
  const values = source.matchAll(/^export (?:async )?(?:function\*?|const) (\w+)/gm);
  return [...new Set([...types, ...values].map(([, name]) => name!))];
}

/** The names that more than one file declares, each with these files. */
function sharedNamesOf(sources: readonly SourceFile[]): string[] {
  const declared = sources.flatMap(({ path, source }) => namesOf(source).map((name) => ({ name, path })));
  return [...groupBy(declared, ({ name }) => name)]
    .filter(([, places]) => places.length > 1)
    .map(([name, places]) => `${name}: ${places.map(({ path }) => path).join(", ")}`);
}

function sourceFiles(): SourceFile[] {
  return readdirSync(resolve(root, "src"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => resolve(root, "src", name))
    .filter((file) => existsSync(file))
    .map((file) => ({
      path: relative(root, file).split(sep).join("/"),
      source: readFileSync(file, "utf8"),
    }));
}

const files = sourceFiles();
const edges = edgesOf(files);

describe("imports between the folders of src", () => {
  test("include those of every room", () => {
    expect(files.map((file) => file.path)).toContain("src/raft/raft.ts");
    expect(edges).toContainEqual({ from: "src/raft/raft.ts", to: "src/raft/log.ts", typeOnly: false });
    expect(edges).toContainEqual({ from: "src/system/fs.ts", to: "src/base/errors.ts", typeOnly: false });
  });

  test("all lead to files that exist", () => {
    const known = new Set(files.map((file) => file.path));
    expect(edges.filter(({ to }) => to.startsWith("src/") && !known.has(to))).toEqual([]);
  });

  test("are ruled in every folder of src", () => {
    expect([...new Set(files.map((file) => partOf(file.path)))].filter((part) => !(part in mayImport))).toEqual([]);
    const within = [...new Set(files.map((file) => folderOf(file.path)))].filter((folder) => folder.includes("/"));
    expect(within.sort()).toEqual(Object.keys(mayImportBeside).sort());
  });

  test("follow rules without a circle: each room imports only rooms that come before it", () => {
    for (const rules of [mayImport, mayImportBeside]) {
      const order = Object.keys(rules);
      const wrong = Object.entries(rules).flatMap(([part, allowed]) =>
        allowed.filter((each) => each !== "gen" && order.indexOf(each) >= order.indexOf(part)),
      );
      expect(wrong).toEqual([]);
    }
  });

  test.each(Object.entries(mayImport))("let %s import only itself and %j", (part) => {
    const wrong = edges.filter((edge) => partOf(edge.from) === part && !isAllowed(edge));
    expect(wrong.map(({ from, to }) => `${from} imports ${to}`)).toEqual([]);
  });

  test("let raft import no package", () => {
    const packages = files
      .filter((file) => partOf(file.path) === "raft")
      .flatMap(({ path, source }) => importsOf(source).map(({ specifier }) => `${path} imports ${specifier}`))
      .filter((line) => !/imports \.\.?\/[\w/.]+\.js$/.test(line));
    expect(packages).toEqual([]);
  });

  test("let nothing import cli", () => {
    expect(edges.filter(({ from, to }) => partOf(to) === "cli" && partOf(from) !== "cli")).toEqual([]);
  });
});

describe("the core of a node", () => {
  /** Files that name the class Raft, and not only the types beside it. */
  const holding = (list: readonly SourceFile[]) =>
    list
      .filter(({ source }) => /^import (type )?\{[^}]*\bRaft\b[^}]*\} from "[./]+raft\/raft\.js";$/m.test(source))
      .map(({ path }) => path);

  test("is held by its guard, and by the Ready loop, which drives it; all others read it through a view", () => {
    const holders = ["src/node/host.ts", "src/node/open/starting.ts", "src/node/ready_loop.ts"];
    expect(holding(files.filter(({ path }) => partOf(path) === "node")).sort()).toEqual(holders);
  });

  test("is found to be held", () => {
    const lines = [
      'import type { Raft } from "../raft/raft.js";',
      'import { type Raft, x } from "../../raft/raft.js";',
    ];
    for (const source of lines) expect(holding([{ path: "a", source }])).toEqual(["a"]);
    expect(holding([{ path: "a", source: 'import type { RaftLimits } from "../raft/raft.js";' }])).toEqual([]);
  });
});

describe("circles of imports", () => {
  test("do not exist between files", () => {
    expect(cyclesOf(edges.filter((edge) => !edge.typeOnly))).toEqual([]);
  });

  test("stay within one folder when types are counted", () => {
    const cycles = cyclesOf(edges);
    if (cycles.length > 0)
      console.info(`files whose types are circular: ${cycles.map((c) => c.join(", ")).join("; ")}`);
    expect(cycles.filter((cycle) => new Set(cycle.map(dirname)).size > 1)).toEqual([]);
  });
});

test(`no source file holds more than ${MAX_LINES} lines of code`, () => {
  const isCode = (line: string) => !/^\s*(\*|\/\/|\/\*|$)/.test(line);
  const long = files.map(({ path, source }) => ({ path, lines: source.split("\n").filter(isCode).length }));
  expect(long.filter(({ lines }) => lines > MAX_LINES)).toEqual([]);
});

test(`no folder of src holds more than ${MAX_FILES} files`, () => {
  const folders = groupBy(files, (file) => dirname(file.path));
  expect([...folders].filter(([, held]) => held.length > MAX_FILES).map(([folder]) => folder)).toEqual([]);
});

test("each type, exported function and exported constant has a name that no other file declares", () => {
  expect(files.flatMap(({ source }) => namesOf(source)).length).toBeGreaterThan(500);
  expect(sharedNamesOf(files)).toEqual([]);
});

describe("the checks of the architecture", () => {
  const edge = (from: string, to: string): Edge => ({ from: `src/${from}`, to: `src/${to}`, typeOnly: false });

  test.each([
    [edge("base/ids.ts", "raft/types.ts")],
    [edge("raft/raft.ts", "system/fs.ts")],
    [edge("raft/raft.ts", "index.ts")],
    [edge("raft/membership/quorum.ts", "raft/leader/leader.ts")],
    [edge("encoding/entry.ts", "storage/wal/wal.ts")],
    [edge("rpc/client.ts", "raft/types.ts")],
    [edge("machine/kv/command.ts", "storage/wal/wal.ts")],
    [edge("machine/lmdb/environment.ts", "machine/worker/messages.ts")],
    [edge("storage/wal/wal.ts", "machine/state_machine.ts")],
    [edge("storage/wal/wal.ts", "storage/snapshots/catalog.ts")],
    [edge("peers/transport.ts", "node/node.ts")],
    [edge("peers/peer_service.ts", "server/server.ts")],
    [edge("node/node.ts", "server/server.ts")],
    [edge("node/requests/reads.ts", "node/health/health.ts")],
    [edge("server/server.ts", "gateway/gateway.ts")],
    [edge("server/server.ts", "ingress/ingress.ts")],
    [edge("ingress/ingress_server.ts", "node/node.ts")],
    [edge("client/client.ts", "node/node.ts")],
    [edge("client/client.ts", "raft/types.ts")],
    [edge("client/client.ts", "machine/kv/command.ts")],
    [edge("gateway/gateway.ts", "storage/wal/wal.ts")],
    [edge("daemon/member.ts", "cli/output/log.ts")],
    [edge("cli/output/log.ts", "cli/commands/start.ts")],
    [edge("index.ts", "cli/main.ts")],
    [edge("client.ts", "server/server.ts")],
    [edge("client.ts", "storage/wal/wal.ts")],
    [edge("server.ts", "client/client.ts")],
    [edge("unknown/file.ts", "base/limits.ts")],
    [{ from: "src/raft/types.ts", to: "gen/cairn/v1/raft_pb.ts", typeOnly: true }],
  ])("reject that $from imports $to", (wrong) => {
    expect(isAllowed(wrong)).toBe(false);
  });

  test.each([
    [edge("raft/leader/leader.ts", "raft/membership/quorum.ts")],
    [edge("raft/leader/leader.ts", "raft/state.ts")],
    [edge("raft/raft.ts", "raft/leader/leader.ts")],
    [edge("cli/commands/snapshot/snapshot.ts", "cli/commands/status.ts")],
    [edge("machine/kv/command.ts", "base/errors.ts")],
    [{ from: "src/client/client.ts", to: "gen/cairn/v1/kv_pb.ts", typeOnly: false }],
  ])("accept that $from imports $to", (right) => {
    expect(isAllowed(right)).toBe(true);
  });

  test("find a name that two files declare, whether a type is exported or not", () => {
    const sources = [
      {
        path: "a.ts",
        source: "export type Both<A> = A;\nexport function one(): void;\nexport function one() {}\nconst own = 1;",
      },
      { path: "b.ts", source: "class Both {}\nexport const one = 1;\nconst own = 2;\nconst Kind = 1;\ntype Kind = 2;" },
    ];
    expect(sharedNamesOf(sources)).toEqual(["Both: a.ts, b.ts", "one: a.ts, b.ts"]);
  });

  test("find imports in source text, resolved from the file that holds them", () => {
    const source = 'import { a } from "../base/errors.js";\nimport type { B } from "./deep/b.js";\nimport "node:fs";';
    expect(edgesOf([{ path: "src/raft/made_up.ts", source }])).toEqual([
      { from: "src/raft/made_up.ts", to: "src/base/errors.ts", typeOnly: false },
      { from: "src/raft/made_up.ts", to: "src/raft/deep/b.ts", typeOnly: true },
    ]);
  });

  test("find circles", () => {
    const circle = [edge("a.ts", "b.ts"), edge("b.ts", "c.ts"), edge("c.ts", "a.ts"), edge("d.ts", "a.ts")];
    expect(cyclesOf(circle)).toEqual([["src/a.ts", "src/b.ts", "src/c.ts"]]);
    expect(cyclesOf([edge("a.ts", "b.ts"), edge("d.ts", "a.ts")])).toEqual([]);
    expect(cyclesOf([edge("a.ts", "a.ts")])).toEqual([["src/a.ts"]]);
  });
});
