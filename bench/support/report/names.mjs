// Names the rows of a benchmark, and finds rows by patterns of names.

/** Whether a pattern is a name or the beginning of one, part by part; `*` stands for any part. */
export function matches(pattern, name) {
  const parts = name.split("/");
  return pattern.split("/").every((part, at) => part === "*" || part === parts[at]);
}

/**
 * Returns the rows that one of the patterns names, or all of them without patterns.
 * @throws Error when a pattern names none
 */
export function pick(rows, patterns) {
  if (patterns === undefined) return rows;
  const silent = patterns.find((pattern) => !rows.some(({ name }) => matches(pattern, name)));
  if (silent !== undefined) throw new Error(`no row is named ${silent}; --list shows them`);
  return rows.filter(({ name }) => patterns.some((pattern) => matches(pattern, name)));
}

/** A size without a space, for a name. */
export function sizeInName(bytes) {
  return bytesInWords(bytes).replace(" ", "");
}

/** A size in its largest whole unit. */
export function bytesInWords(bytes) {
  if (bytes >= 2 ** 20 && bytes % 2 ** 20 === 0) return `${bytes / 2 ** 20} MiB`;
  return bytes >= 1024 && bytes % 1024 === 0 ? `${bytes / 1024} KiB` : `${bytes} B`;
}
