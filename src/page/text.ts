// Figures in words.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

export function bytes(value: number): string {
  let at = 0;
  let left = value;
  for (; left >= 1_024 && at < UNITS.length - 1; at++) left /= 1_024;
  return `${left >= 100 || at === 0 ? left.toFixed(0) : left.toFixed(1)} ${UNITS[at]}`;
}

export function count(value: number): string {
  return Math.round(value).toLocaleString("en");
}

export function milliseconds(value: number): string {
  return value >= 1_000 ? `${(value / 1_000).toFixed(1)} s` : `${Number(value.toPrecision(3))} ms`;
}

export function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1_000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

export function clock(unixMs: number): string {
  return new Date(unixMs).toLocaleTimeString("en-GB");
}
