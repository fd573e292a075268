const UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB"] as const;

/** Formats a number of bytes for people: 1.2 GiB. */
export function sizeText(bytes: number): string {
  const at = Math.max(0, Math.min(UNITS.length - 1, Math.floor(Math.log2(Math.max(bytes, 1)) / 10)));
  const value = bytes / 1024 ** at;
  return `${value < 10 && at > 0 ? Number(value.toFixed(1)) : Math.round(value)} ${UNITS[at]}`;
}
