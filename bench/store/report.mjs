// Prints the figures of the store's benchmark as Markdown tables, aligned for a terminal.
import { medians } from "../support/report/statistics.mjs";
import { figure, machineInWords, NONE, table } from "../support/report/tables.mjs";

const MIB = 2 ** 20;

/** Returns the text of all tables. */
export function tablesOf(result) {
  const { command, at, machine, settings, rows } = result;
  const rounds = `${settings.rounds} ${settings.rounds === 1 ? "round" : "rounds"}`;
  const heading = `Made by \`${command}\` on ${at.slice(0, 10)}: ${rounds}, flushes of ${settings.flushMib} MiB.\n${machineInWords(machine)}`;
  const tables = { size, bytes, loop };
  const texts = Object.entries(tables).flatMap(([name, print]) => {
    const measured = rows.filter((row) => row.table === name && row.rounds.length > 0);
    return measured.length === 0 ? [] : print(measured);
  });
  return [heading, ...texts].join("\n\n");
}

/** Medians over the rounds of what a task has measured on one system. */
function of({ rounds }, task, system) {
  return medians(rounds.map((round) => round[task][system] ?? {}));
}

function size(rows) {
  return rows.flatMap((row) => [`**${row.name}**: ${row.keys.toLocaleString("en-US")} keys`, sizeTable(row)]);
}

function sizeTable(row) {
  const lines = [];
  const line = (what, task, value) => {
    const cells = ["store", "lmdb"].map((system) => {
      const figures = of(row, task, system);
      return Object.keys(figures).length === 0 ? NONE : value(figures);
    });
    lines.push([what, ...cells]);
  };
  const micros = (name) => (figures) => figure(figures[name]);
  for (const [task, what] of [
    ["put", "put"],
    ["putWithId", "put with a request id"],
  ]) {
    line(`${what}: apply, median of batches, us`, task, micros("batchMicros"));
    line(`${what}: main thread, CPU us`, task, micros("mainMicros"));
    line(`${what}: the state's worker, CPU us`, task, micros("workerMicros"));
    line(`${what}: other threads, CPU us`, task, micros("othersMicros"));
  }
  line("decoding a put, us", "decode", micros("mainMicros"));
  line("decoding a put with a request id, us", "decodeWithId", micros("mainMicros"));
  line("the store's part of a put: median of batches, us", "engine", micros("batchMicros"));
  line("the store's part of a put: main thread, CPU us", "engine", micros("mainMicros"));
  line("get, of 2,000 keys, us", "read", micros("hot"));
  line("get, of all keys, us", "read", micros("cold"));
  line("get of an absent key, us", "read", micros("absent"));
  line("range of 20 keys, us", "read", micros("range"));
  line("key of a long range, us", "read", micros("longRange"));
  line("fill: bytes written a byte put", "fill", withLog);
  line("fill: disk over live state, average and peak", "fill", disk);
  line("fill: main thread, us", "fill", micros("mainMicros"));
  line("anonymous memory, peak of the puts, MiB", "put", ({ anonymousPeak }) => figure(anonymousPeak / MIB));
  line("anonymous memory of the process when it is empty, MiB", "memory", ({ anonymousEmpty }) => {
    return figure(anonymousEmpty / MIB);
  });
  line("restart: log, state, replay, ms", "restart", ({ logMs, openMs, replayMs }) => {
    return [logMs, openMs, replayMs].map((ms) => figure(ms)).join(", ");
  });
  line("restart: entries replayed", "restart", ({ replayed }) => Math.round(replayed).toLocaleString("en-US"));
  line("delete: main thread, us", "deleted", micros("mainMicros"));
  line("all keys deleted: disk before and after, MiB", "deleted", ({ before, after }) => {
    return `${figure(before / MIB)}, ${figure(after / MIB)}`;
  });
  line("all keys deleted: drained after, s", "deleted", ({ drainMs }) => figure(drainMs / 1000));
  return table(["", "store", "LMDB"], lines);
}

function bytes(rows) {
  const head = [
    "overwriting",
    "bytes written a byte put",
    "of them the log",
    "disk over live: average",
    "peak",
    "main us a put",
    "worker us",
    "anonymous peak MiB",
  ];
  const body = rows.flatMap((row) =>
    ["store", "lmdb"].map((system) => {
      const figures = of(row, "overwrite", system);
      return [
        `${row.order}, ${system === "lmdb" ? "LMDB" : system}`,
        ...[figures.writtenPerByte, figures.logPerByte, figures.diskAverage, figures.diskPeak].map((n) => figure(n)),
        ...[figures.mainMicros, figures.workerMicros, figures.anonymousPeak / MIB].map((n) => figure(n)),
      ];
    }),
  );
  return [table(head, body)];
}

function loop(rows) {
  const head = [
    "steady load",
    "puts/s",
    "steps",
    "loop p99.9 ms",
    "loop max ms",
    "ran max ms",
    "log p50 ms",
    "log p99 ms",
    "log max ms",
  ];
  const body = rows.flatMap((row) =>
    Object.keys(row.rounds[0].steady).map((system) => {
      const figures = of(row, "steady", system);
      const { reached, steps, loopP999, loopMax, ranMax, logP50, logP99, logMax } = figures;
      const name = system === "lmdb" ? "LMDB" : system;
      return [name, ...[reached, steps, loopP999, loopMax, ranMax, logP50, logP99, logMax].map((n) => figure(n))];
    }),
  );
  return [table(head, body)];
}

function withLog({ writtenPerByte, logPerByte }) {
  return `${figure(writtenPerByte)}, of them the log ${figure(logPerByte)}`;
}

function disk({ diskAverage, diskPeak }) {
  return `${figure(diskAverage)}, ${figure(diskPeak)}`;
}
