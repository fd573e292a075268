// Prints a result of the comparison as Markdown tables, aligned for a terminal.
import { median } from "../support/report/statistics.mjs";
import { figure, firstLine, machineInWords, NONE, table } from "../support/report/tables.mjs";

/** The tables of a whole result. */
export function report(result) {
  const { rows, processes } = result;
  const load = rows.filter(({ kind }) => kind === "load");
  const life = rows.filter(({ kind }) => kind === "life");
  const parts = [heading(result)];
  for (const [group, members] of groupsOf(load)) parts.push(`**${capitalized(group)}**`, speedTable(members));
  if (load.length > 0) {
    parts.push(
      "**Cost**: CPU time of the three servers and of the caller, and bytes written by all three",
      costTable(load),
    );
  }
  if (processes.length > 0) {
    parts.push("**Each process**, after all of the above", processTable(processes), callsServed(processes));
  }
  if (life.length > 0) parts.push(`**Life of a cluster** with ${lifeInWords(result.settings)}`, lifeTable(life));
  const remarks = remarksOn(rows);
  if (result.unfinished !== undefined) remarks.push(`the run ended early: ${firstLine(result.unfinished)}`);
  if (remarks.length > 0) parts.push("**Remarks**", remarks.map((remark) => `- ${remark}`).join("\n"));
  return parts.join("\n\n");
}

function heading({ command, at, machine, cairn, sources, settings }) {
  const { version, missing } = sources.etcd;
  const etcd = version === undefined ? `etcd not measured (${firstLine(missing)})` : `etcd ${version}`;
  const rounds = `${settings.rounds} ${settings.rounds === 1 ? "round" : "rounds"} of ${settings.seconds} s a figure`;
  return [
    `Made by \`${command}\` on ${at.slice(0, 10)}: Cairn ${cairn}, ${etcd}, ${rounds}.`,
    machineInWords(machine),
  ].join("\n");
}

function groupsOf(rows) {
  const groups = new Map();
  for (const row of rows) groups.set(row.group, [...(groups.get(row.group) ?? []), row]);
  return groups;
}

function speedTable(rows) {
  const head = ["work", "etcd /s", "Cairn /s", "ratio", "etcd p50, p99, max ms", "Cairn p50, p99, max ms", "p99 ratio"];
  const latency = (figures) =>
    figures === undefined ? NONE : [figures.p50, figures.p99, figures.max].map((value) => figure(value)).join(", ");
  const body = rows.map(({ title, summary: { etcd, cairn, ratio } }) => [
    title,
    figure(etcd?.rate),
    figure(cairn?.rate),
    figure(ratio.rate),
    latency(etcd),
    latency(cairn),
    figure(ratio.p99),
  ]);
  return table(head, body);
}

function costTable(rows) {
  const head = [
    "us a call, bytes a byte put",
    ...["etcd servers", "Cairn servers", "ratio"],
    ...["etcd caller", "Cairn caller"],
    ...["etcd written", "Cairn written", "ratio"],
  ];
  const body = rows.map(({ name, summary: { etcd, cairn, ratio } }) => [
    name,
    ...[figure(etcd?.serverMicros), figure(cairn?.serverMicros), figure(ratio.serverMicros)],
    ...[figure(etcd?.callerMicros), figure(cairn?.callerMicros)],
    ...[figure(etcd?.writtenPerByte), figure(cairn?.writtenPerByte), figure(ratio.writtenPerByte)],
  ]);
  return table(head, body);
}

function processTable(rounds) {
  const head = ["process", "CPU s", "anonymous memory, peak MiB", "file-backed, peak MiB", "written MiB"];
  const body = systemsOf(rounds).flatMap((system) =>
    ["leader", "follower 1", "follower 2"].map((role, at) => {
      const of = (name) => median(rounds.map((taken) => taken[system].nodes[at][name]));
      const sizes = ["anonymousBytes", "fileBytes", "writtenBytes"].map((name) => figure(of(name) / 2 ** 20));
      return [`${nameOf(system)}, ${role}`, figure(of("cpuSeconds")), ...sizes];
    }),
  );
  if (systemsOf(rounds).length === 2) {
    const ratios = ["anonymousBytes", "fileBytes"].map((name) => figure(ratioOfSums(rounds, name)));
    body.push(["ratio of the sums", NONE, ...ratios, NONE]);
  }
  return table(head, body);
}

/** Of memory only: CPU time and bytes written depend on how many calls were answered. */
function ratioOfSums(rounds, name) {
  const sum = ({ nodes }) => nodes.reduce((total, node) => total + node[name], 0);
  return median(rounds.map(({ etcd, cairn }) => sum(cairn) / sum(etcd)));
}

function callsServed(rounds) {
  const each = systemsOf(rounds).map((system) => {
    const [calls, puts] = ["calls", "puts"].map((name) => median(rounds.map((taken) => taken[system][name])));
    return `${nameOf(system)} ${calls.toLocaleString("en-US")} calls, of them ${puts.toLocaleString("en-US")} puts`;
  });
  return `Answered for that, beside what filled the clusters: ${each.join("; ")}.`;
}

function lifeTable(rows) {
  const inWords = (figures) => {
    if (figures === undefined) return NONE;
    const size = figures.bytes === undefined ? "" : `, ${figure(figures.bytes / 2 ** 20, "MiB")}`;
    return `${figure(figures.ms, "ms")}${size}`;
  };
  const body = rows.map(({ title, summary: { etcd, cairn, ratio } }) => [
    title,
    inWords(etcd),
    inWords(cairn),
    figure(ratio.ms),
  ]);
  return table(["what (less is better)", "etcd", "Cairn", "ratio"], body);
}

function lifeInWords({ lifeKeys, behind, lifeRounds }) {
  const missed = `the follower misses ${behind.toLocaleString("en-US")} writes`;
  return `${lifeKeys.toLocaleString("en-US")} values of 1 KiB; ${missed}; rounds: ${lifeRounds}`;
}

/** Tells of cells that failed, calls that failed, and calls that an open loop could not send. */
function remarksOn(rows) {
  return rows.flatMap(({ name, rounds }) =>
    rounds.flatMap((pair) =>
      Object.entries(pair).flatMap(([system, figures]) => {
        const where = `${name}, ${nameOf(system)}`;
        if (figures === undefined) return [];
        if (figures.failed !== undefined) return [`${where}: not measured: ${firstLine(figures.failed)}`];
        const remarks = [];
        if (figures.errors > 0) remarks.push(`${where}: ${figures.errors} calls failed: ${figures.firstError}`);
        if (figures.unsent > 0) remarks.push(`${where}: ${figures.unsent} calls could not be sent in time`);
        return remarks;
      }),
    ),
  );
}

function systemsOf(rounds) {
  return ["etcd", "cairn"].filter((system) => rounds[0]?.[system] !== undefined);
}

function nameOf(system) {
  return system === "cairn" ? "Cairn" : system;
}

function capitalized(text) {
  return text[0].toUpperCase() + text.slice(1);
}
