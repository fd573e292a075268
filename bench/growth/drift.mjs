// Decides whether figures of a long run drift.
//
// The first third of the run is the warm-up and the reference: its mean. A line is fitted to the
// rest. A figure drifts if the line rises or falls by more than a tenth of the reference from its
// beginning to its end, and by more than twice the standard error of that.

const SHARE = 0.1;
const ERRORS = 2;

/**
 * Judges each series; its values are `intervalSeconds` apart. Returns `{ name, reference, later,
 * perHour, change, error, drifts }` for each: means of the first third and of the rest, the slope in
 * units an hour, and the rise of the line over the rest, with its standard error, in parts of the
 * reference. A series of fewer than six values is too short for a verdict: `drifts` is undefined.
 */
export function driftOf(series, intervalSeconds) {
  return Object.entries(series).map(([name, values]) => ({ name, ...judge(values, intervalSeconds) }));
}

function judge(values, intervalSeconds) {
  const third = Math.floor(values.length / 3);
  const [first, rest] = [values.slice(0, third), values.slice(third)];
  const reference = mean(first);
  const { slope, error } = fit(rest);
  const steps = rest.length - 1;
  const change = (slope * steps) / reference;
  const changeError = (error * steps) / reference;
  const isKnown = values.length >= 6;
  return {
    reference,
    later: mean(rest),
    perHour: (slope * 3600) / intervalSeconds,
    change,
    error: changeError,
    drifts: isKnown ? Math.abs(change) > SHARE && Math.abs(change) > ERRORS * changeError : undefined,
  };
}

/** Least squares over positions 0, 1, 2: the slope for one step, and its standard error. */
export function fit(values) {
  const middle = (values.length - 1) / 2;
  const level = mean(values);
  const spread = values.reduce((sum, _, at) => sum + (at - middle) ** 2, 0);
  const slope = values.reduce((sum, value, at) => sum + (at - middle) * (value - level), 0) / spread;
  const residue = values.reduce((sum, value, at) => sum + (value - level - slope * (at - middle)) ** 2, 0);
  return { slope, error: Math.sqrt(residue / (values.length - 2) / spread) };
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
