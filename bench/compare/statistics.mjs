// Reduces the figures of several rounds to one: medians of each system, and medians of the ratios
// of pairs that were measured one right after the other.
import { median, medians, numbersOf } from "../support/report/statistics.mjs";

/**
 * Summarizes rounds of `{ etcd, cairn }`, each a record of figures, undefined where it was not
 * measured: a record of medians for each system, and `ratio`, the median of Cairn's figure divided
 * by etcd's over the rounds that have both.
 */
export function summarize(rounds) {
  const of = (system) => rounds.map((round) => round[system]).filter((figures) => figures !== undefined);
  const pairs = rounds.filter(({ etcd, cairn }) => etcd !== undefined && cairn !== undefined);
  const ratio = {};
  for (const name of numbersOf(pairs.flatMap(({ etcd, cairn }) => [etcd, cairn]))) {
    ratio[name] = median(pairs.map(({ etcd, cairn }) => cairn[name] / etcd[name]).filter(Number.isFinite));
  }
  const summaryOf = (records) => (records.length === 0 ? undefined : medians(records));
  return { etcd: summaryOf(of("etcd")), cairn: summaryOf(of("cairn")), ratio };
}
