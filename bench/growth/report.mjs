// Prints the tables of growth as Markdown, aligned for a terminal.
import { bytesInWords } from "../support/report/names.mjs";
import { median, medians } from "../support/report/statistics.mjs";
import { figure, firstLine, machineInWords, NONE, table } from "../support/report/tables.mjs";
import { TABLES } from "./rows.mjs";

const MIB = 2 ** 20;

/** Returns the text of each table that was measured, by its name. */
export function tablesOf(result) {
  const parts = { members, values, keys, sustain };
  const texts = {};
  for (const name of TABLES) {
    const rows = result.rows.filter((row) => row.table === name);
    const measured = rows.map(withoutFailed).filter(({ rounds }) => rounds.length > 0);
    if (rows.length === 0) continue;
    const remarks = remarksOn(rows).map((remark) => `- ${remark}`);
    const text = [heading(result, name), ...(measured.length === 0 ? [] : parts[name](measured, result))];
    texts[name] = [...text, ...(remarks.length === 0 ? [] : [remarks.join("\n")])].join("\n\n");
  }
  return texts;
}

function withoutFailed(row) {
  return { ...row, rounds: row.rounds.filter(({ failed }) => failed === undefined) };
}

function heading({ command, at, machine, cairn, settings, unary }, name) {
  const times = `${settings.seconds} s a figure`;
  const rounds = `${settings.rounds} ${settings.rounds === 1 ? "round" : "rounds"} of ${times}`;
  const caller = unary === "load" ? "The load generator in Go" : "A process with grpc-js";
  const made = `Made by \`${command}\` on ${at.slice(0, 10)}: Cairn ${cairn}`;
  const how = {
    members: `, ${rounds}. ${caller} made the unary calls.`,
    values: `, ${rounds}. ${caller} made the unary calls.`,
    keys: `, ${times}.`,
    sustain: ".",
  };
  return `${made}${how[name]}\n${machineInWords(machine)}`;
}

/** The loads of a row, each with medians over its rounds. */
function loadsOf({ rounds }) {
  return rounds[0].loads.map(({ work, callers, valueBytes }, at) => ({
    ...medians(rounds.map(({ loads }) => loads[at])),
    work,
    callers,
    valueBytes,
  }));
}

function members(rows) {
  const head = [
    "work, members",
    ...["/s", "p50 ms", "p99 ms"],
    ...["leader CPU us", "follower CPU us", "caller CPU us"],
    ...["leader sent B", "follower sent B"],
  ];
  const lines = rows.flatMap((row) => loadsOf(row).map((load) => ({ ...load, members: row.members })));
  const works = [...new Set(lines.map(({ work }) => work))];
  const body = works.flatMap((work) =>
    lines
      .filter((load) => load.work === work)
      .map((load) => [
        `${work}, ${load.members}`,
        ...[figure(load.rate), figure(load.p50), figure(load.p99)],
        ...[figure(load.leaderMicros), figure(load.followerMicros), figure(load.callerMicros)],
        ...[figure(load.leaderSent), figure(load.followerSent)],
      ]),
  );
  return [table(head, body)];
}

function values(rows) {
  const head = ["work, value", "callers", "/s", "MiB/s", "p50 ms", "p99 ms", "leader CPU us", "follower CPU us"];
  const lines = rows.flatMap(loadsOf);
  const works = [...new Set(lines.map(({ work }) => work))];
  const body = works.flatMap((work) =>
    lines
      .filter((load) => load.work === work)
      .map((load) => [
        `${work}, ${bytesInWords(load.valueBytes)}`,
        String(load.callers),
        ...[figure(load.rate), figure((load.rate * load.valueBytes) / MIB), figure(load.p50), figure(load.p99)],
        ...[figure(load.leaderMicros), figure(load.followerMicros)],
      ]),
  );
  const memoryHead = ["value", "keys", "leader, anonymous peak MiB", "follower, anonymous peak MiB"];
  const memory = rows.map(({ valueBytes, rounds }) => [
    bytesInWords(valueBytes),
    rounds[0].keys.toLocaleString("en-US"),
    ...peaksOf(rounds),
  ]);
  return [table(head, body), table(memoryHead, memory)];
}

/** Anonymous memory of the leader, and of the follower that had the most. */
function peaksOf(rounds) {
  const most = (nodes) => Math.max(...nodes.map(({ anonymousPeak }) => anonymousPeak));
  const leader = median(rounds.map(({ memory }) => memory.leader.anonymousPeak));
  const follower = median(rounds.map(({ memory }) => most(memory.followers)));
  return [mebi(leader), mebi(follower)];
}

function keys(rows) {
  const count = ({ keys }) => keys.toLocaleString("en-US");
  const speedHead = [
    "keys",
    "fill s",
    "fill /s",
    "last tenth /s",
    "puts/s",
    "p99 ms",
    "written KiB a put",
    "gets/s",
    "p99 ms",
  ];
  const speed = rows.map((row) => {
    const [{ fill, put, get }] = row.rounds;
    const filled = [fill.seconds, fill.rate, fill.parts.at(-1).rate];
    const driven = [put.rate, put.p99, put.leaderWritten / 1024, get.rate, get.p99];
    return [count(row), ...[...filled, ...driven].map((value) => figure(value))];
  });
  const sizeHead = [
    "keys",
    ...["leader, anonymous MiB", "follower", "leader, file-backed MiB", "follower"],
    ...["state MiB", "log MiB", "snapshots MiB", "snapshot s", "restart s"],
  ];
  const size = rows.map((row) => {
    const [{ memory, disk, snapshot, restart }] = row.rounds;
    const most = (name) => Math.max(...memory.followers.map((node) => node[name]));
    return [
      count(row),
      ...[mebi(memory.leader.anonymousPeak), mebi(most("anonymousPeak"))],
      ...[mebi(memory.leader.filePeak), mebi(most("filePeak"))],
      ...[mebi(disk.state), mebi(disk.log), mebi(disk.snapshots)],
      ...[figure(snapshot.ms / 1000), figure(restart.ms / 1000)],
    ];
  });
  return [table(speedHead, speed), table(sizeHead, size)];
}

function sustain([row]) {
  const [{ capacity, rate, intervals, drift }] = row.rounds;
  const load = `${rate.toLocaleString("en-US")} puts a second of ${figure(capacity)} that the cluster took with 128 callers.`;
  const head = [
    "minutes",
    ...["/s", "p50 ms", "p99 ms", "max ms", "failed"],
    ...["anonymous MiB", "descriptors", "disk MiB", "snapshots"],
  ];
  const of = (nodes, name, unit = 1) => nodes.map((node) => Math.round(node[name] / unit)).join(", ");
  const body = intervals.map(({ seconds, nodes, ...interval }) => [
    figure(seconds / 60),
    ...[figure(interval.rate), figure(interval.p50), figure(interval.p99), figure(interval.max)],
    ...[interval.errors.toLocaleString("en-US"), of(nodes, "anonymousBytes", MIB), of(nodes, "descriptors")],
    ...[of(nodes, "diskBytes", MIB), of(nodes, "snapshots")],
  ]);
  const driftHead = ["drift", "first third", "the rest", "slope an hour", "change over the rest", "verdict"];
  const lines = drift.map(({ name, reference, later, perHour, change, error, drifts }) => [
    name,
    ...[reference, later, perHour].map((value) => figure(/memory|disk/.test(name) ? value / MIB : value)),
    `${percent(change)} +- ${percent(error)}`,
    drifts === undefined ? "too short" : drifts ? "drifts" : "steady",
  ]);
  return [load, table(head, body), table(driftHead, lines)];
}

/** Tells of rows and calls that failed, and of leaders that changed within a measurement. */
function remarksOn(rows) {
  return rows.flatMap(({ name, rounds }) =>
    rounds.flatMap((round) => {
      if (round.failed !== undefined) return [`${name}: not measured: ${firstLine(round.failed)}`];
      return measurementsOf(round).flatMap(({ work, errors = 0, firstError, leaderMoved }) => {
        const failed = errors > 0 ? [`${name}, ${work}: ${errors} calls failed: ${firstError}`] : [];
        return leaderMoved === 1 ? [...failed, `${name}, ${work}: the leader changed`] : failed;
      });
    }),
  );
}

function measurementsOf({ loads = [], fill, put, get, intervals = [] }) {
  const named = { fill, put, get };
  const single = Object.keys(named).filter((work) => named[work] !== undefined);
  return [
    ...loads,
    ...single.map((work) => ({ ...named[work], work })),
    ...intervals.map((interval) => ({ ...interval, work: `${interval.seconds} s` })),
  ];
}

function mebi(bytes) {
  return Number.isFinite(bytes) ? figure(bytes / MIB) : NONE;
}

function percent(share) {
  return `${figure(share * 100)} %`;
}
