// Reduces the figures of several rounds to one: medians of each system, and medians of the ratios
// of pairs that were measured one right after the other.

/** The middle one, or the mean of the two in the middle; NaN for none. */
export function median(numbers) {
  const sorted = numbers.filter(Number.isFinite).sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * Summarizes rounds of `{ etcd, cairn }`, each a record of figures, undefined where it was not
 * measured: a record of medians for each system, and `ratio`, the median of Cairn's figure divided
 * by etcd's over the rounds that have both.
 */
export function summarize(rounds) {
  const of = (system) => rounds.map((round) => round[system]).filter((figures) => figures !== undefined);
  const pairs = rounds.filter(({ etcd, cairn }) => etcd !== undefined && cairn !== undefined);
  const ratio = {};
  for (const name of namesOf(pairs.flatMap(({ etcd, cairn }) => [etcd, cairn]))) {
    ratio[name] = median(pairs.map(({ etcd, cairn }) => cairn[name] / etcd[name]).filter(Number.isFinite));
  }
  return { etcd: medians(of("etcd")), cairn: medians(of("cairn")), ratio };
}

function medians(records) {
  if (records.length === 0) return undefined;
  return Object.fromEntries(
    namesOf(records).map((name) => [name, median(records.map((record) => record[name] ?? Number.NaN))]),
  );
}

/** The names whose values are numbers. */
function namesOf(records) {
  const names = records.flatMap((record) => Object.keys(record).filter((name) => typeof record[name] === "number"));
  return [...new Set(names)];
}
