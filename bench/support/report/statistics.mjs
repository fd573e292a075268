// Reduces figures of several measurements to one.

/** The middle one, or the mean of the two in the middle; NaN for none. */
export function median(numbers) {
  const sorted = numbers.filter(Number.isFinite).sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Returns the median of each figure of several records. Figures that are no numbers are left out. */
export function medians(records) {
  return Object.fromEntries(
    numbersOf(records).map((name) => [name, median(records.map((record) => record[name] ?? Number.NaN))]),
  );
}

/** The names whose values are numbers. */
export function numbersOf(records) {
  const names = records.flatMap((record) => Object.keys(record).filter((name) => typeof record[name] === "number"));
  return [...new Set(names)];
}
