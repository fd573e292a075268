import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, posix, relative, resolve, sep } from "node:path";
import { describe, expect, test } from "vitest";
import { importsOf } from "./support/source_text.js";

const root = resolve(import.meta.dirname, "..");

/** Lines after which a source file certainly holds a second idea. */
const MAX_LINES = 450;

/** What a folder (or file) of src may import besides itself: folders, or files given with their path. Packages are anyone's. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  core: [],
  "errors.ts": [],
  "version.ts": [],
  "clock.ts": [],
  "key_checks.ts": ["core", "errors.ts"],
  "arguments.ts": ["core", "errors.ts"],
  // The file system is an interface that everything which writes files takes, so that tests can break it.
  // The format of snapshot files is there for the thread that makes a whole file of a captured state.
  machine: [
    "core",
    "key_checks.ts",
    "system/fs.ts",
    "encoding/snapshot_file.ts",
    "encoding/snapshot_header.ts",
    "errors.ts",
    "gen",
  ],
  storage: ["core", "errors.ts", "gen"],
  // Entries have the same bytes in the log as between peers.
  transport: ["core", "encoding/entry.ts", "arguments.ts", "errors.ts", "gen"],
  node: ["core", "machine", "storage", "transport", "arguments.ts", "errors.ts", "version.ts", "clock.ts"],
  server: [
    "core",
    "machine",
    "storage",
    "transport",
    "node",
    "arguments.ts",
    "key_checks.ts",
    "errors.ts",
    "version.ts",
    "gen",
  ],
  client: ["core", "key_checks.ts", "transport", "arguments.ts", "errors.ts", "version.ts", "clock.ts", "gen"],
  gateway: [
    "core",
    "machine",
    "storage/snapshots",
    "encoding/membership.ts",
    "transport",
    "node",
    "server",
    "client",
    "errors.ts",
    "version.ts",
    "gen",
  ],
  daemon: ["core", "machine", "storage", "transport", "node", "server", "arguments.ts", "errors.ts", "gen"],
  "index.ts": [
    "daemon",
    "core",
    "machine",
    "storage",
    "transport",
    "node",
    "server",
    "client",
    "errors.ts",
    "version.ts",
    "clock.ts",
    "gen",
  ],
  cli: [
    "core",
    "machine",
    "storage",
    "transport",
    "node",
    "server",
    "client",
    "daemon",
    "gateway",
    "index.ts",
    "errors.ts",
    "version.ts",
    "gen",
  ],
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

function isAllowed({ from, to }: Edge): boolean {
  const [part, target] = [partOf(from), partOf(to)];
  if (part === target) return true;
  const allowed = mayImport[part] ?? [];
  return allowed.some((each) => each === target || to === `src/${each}` || to.startsWith(`src/${each}/`));
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

describe("import direction", () => {
  test("the files and their imports are found", () => {
    expect(files.map((file) => file.path)).toContain("src/raft/raft.ts");
    expect(edges).toContainEqual({ from: "src/raft/raft.ts", to: "src/raft/log.ts", typeOnly: false });
    expect(edges).toContainEqual({ from: "src/system/fs.ts", to: "src/base/errors.ts", typeOnly: false });
  });

  test("every folder of src has its rule", () => {
    expect([...new Set(files.map((file) => partOf(file.path)))].filter((part) => !(part in mayImport))).toEqual([]);
  });

  test.each(Object.entries(mayImport))("%s imports only itself and %j", (part) => {
    const wrong = edges.filter((edge) => partOf(edge.from) === part && !isAllowed(edge));
    expect(wrong.map(({ from, to }) => `${from} imports ${to}`)).toEqual([]);
  });

  test("core imports no package either", () => {
    const packages = files
      .filter((file) => partOf(file.path) === "core")
      .flatMap(({ path, source }) => importsOf(source).map(({ specifier }) => `${path} imports ${specifier}`))
      .filter((line) => !/imports \.\/[\w/]+\.js$/.test(line));
    expect(packages).toEqual([]);
  });

  test("nothing imports cli", () => {
    expect(edges.filter(({ from, to }) => partOf(to) === "cli" && partOf(from) !== "cli")).toEqual([]);
  });
});

describe("cycles", () => {
  test("no files import each other in a circle", () => {
    expect(cyclesOf(edges.filter((edge) => !edge.typeOnly))).toEqual([]);
  });

  test("with types counted, circles stay within one folder", () => {
    const cycles = cyclesOf(edges);
    if (cycles.length > 0)
      console.info(`files whose types are circular: ${cycles.map((c) => c.join(", ")).join("; ")}`);
    expect(cycles.filter((cycle) => new Set(cycle.map(dirname)).size > 1)).toEqual([]);
  });
});

test(`no source file is longer than ${MAX_LINES} lines`, () => {
  const long = files.map(({ path, source }) => ({ path, lines: source.split("\n").length - 1 }));
  expect(long.filter(({ lines }) => lines > MAX_LINES)).toEqual([]);
});

describe("the rules can be broken", () => {
  const edge = (from: string, to: string): Edge => ({ from: `src/${from}`, to: `src/${to}`, typeOnly: false });

  test.each([
    [edge("raft/raft.ts", "errors.ts")],
    [edge("raft/raft.ts", "system/fs.ts")],
    [edge("machine/kv.ts", "storage/wal/wal.ts")],
    [edge("storage/wal/wal.ts", "machine/kv.ts")],
    [edge("transport/peers.ts", "node/node.ts")],
    [edge("transport/peers.ts", "server/server.ts")],
    [edge("node/node.ts", "server/server.ts")],
    [edge("server/server.ts", "gateway/gateway.ts")],
    [edge("client/client.ts", "node/node.ts")],
    [edge("client/client.ts", "system/fs.ts")],
    [edge("gateway/gateway.ts", "storage/wal/wal.ts")],
    [edge("index.ts", "cli/main.ts")],
    [edge("errors.ts", "base/limits.ts")],
    [edge("unknown/file.ts", "base/limits.ts")],
    [{ from: "src/raft/types.ts", to: "gen/cairn/v1/raft_pb.ts", typeOnly: true }],
  ])("$from must not import $to", (wrong) => {
    expect(isAllowed(wrong)).toBe(false);
  });

  test("imports are found in source text, resolved from where they stand", () => {
    const source = 'import { a } from "../errors.js";\nimport type { B } from "./deep/b.js";\nimport "node:fs";';
    expect(edgesOf([{ path: "src/raft/made_up.ts", source }])).toEqual([
      { from: "src/raft/made_up.ts", to: "src/base/errors.ts", typeOnly: false },
      { from: "src/raft/made_up.ts", to: "src/core/deep/b.ts", typeOnly: true },
    ]);
  });

  test("circles are found", () => {
    const circle = [edge("a.ts", "b.ts"), edge("b.ts", "c.ts"), edge("c.ts", "a.ts"), edge("d.ts", "a.ts")];
    expect(cyclesOf(circle)).toEqual([["src/a.ts", "src/b.ts", "src/c.ts"]]);
    expect(cyclesOf([edge("a.ts", "b.ts"), edge("d.ts", "a.ts")])).toEqual([]);
    expect(cyclesOf([edge("a.ts", "a.ts")])).toEqual([["src/a.ts"]]);
  });
});
