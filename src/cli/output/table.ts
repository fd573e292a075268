/** Width to which no column is cut further while the terminal has room for all columns. */
const NARROW = 12;

const GAP = "  ";

/**
 * Formats columns of text, each as wide as its widest cell. On a terminal, the widest columns are
 * cut until the table fits, with an ellipsis. When that does not suffice, the columns that do not
 * fit follow in further tables, each with the first column again. A pipe gets one whole table.
 */
export function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  terminalColumns: number | undefined = process.stdout.isTTY ? process.stdout.columns : undefined,
): string {
  const natural = head.map((title, at) => Math.max(title.length, ...rows.map((row) => (row[at] ?? "").length)));
  const lines = [head, ...rows];
  if (terminalColumns === undefined) return part(lines, natural, allOf(natural));
  const widths = fitted(natural, terminalColumns);
  if (widths !== undefined) return part(lines, widths, allOf(widths));
  const groups = groupsOf(natural, terminalColumns);
  return groups.map((columns) => part(lines, capped(natural, columns, terminalColumns), columns)).join("\n\n");
}

/** Formats some of the columns. */
function part(lines: readonly (readonly string[])[], widths: readonly number[], columns: readonly number[]): string {
  const format = (cells: readonly string[]) =>
    columns
      .map((at) => cut(cells[at] ?? "", widths[at]!).padEnd(widths[at]!))
      .join(GAP)
      .trimEnd();
  return lines.map(format).join("\n");
}

/**
 * Takes from the widest column, one at a time, until the line fits. Returns undefined when it does
 * not fit before all columns are narrow.
 */
function fitted(natural: readonly number[], columns: number): number[] | undefined {
  const widths = [...natural];
  let excess = lineWidth(widths) - columns;
  while (excess-- > 0) {
    const widest = Math.max(...widths);
    if (widest <= NARROW) return undefined;
    // Of equal ones the last: the first columns name what a row is about.
    widths[widths.lastIndexOf(widest)]!--;
  }
  return widths;
}

/** Returns groups of columns that fit beside the first one, which each group begins with. */
function groupsOf(natural: readonly number[], columns: number): number[][] {
  const groups: number[][] = [[0]];
  for (const at of allOf(natural).slice(1)) {
    const group = [...groups.at(-1)!, at];
    const isFull = lineWidth(group.map((each) => natural[each]!)) > columns && group.length > 2;
    if (isFull) groups.push([0, at]);
    else groups[groups.length - 1] = group;
  }
  return groups;
}

/** Cuts a lone column, or the first one, that is wider than the terminal. */
function capped(natural: readonly number[], group: readonly number[], columns: number): number[] {
  const widths = [...natural];
  while (lineWidth(group.map((at) => widths[at]!)) > columns) {
    const widest = group.reduce((best, at) => (widths[at]! >= widths[best]! ? at : best));
    if (widths[widest]! <= 1) break;
    widths[widest]!--;
  }
  return widths;
}

function lineWidth(widths: readonly number[]): number {
  return widths.reduce((sum, width) => sum + width, GAP.length * (widths.length - 1));
}

function allOf(widths: readonly number[]): number[] {
  return [...widths.keys()];
}

function cut(cell: string, width: number): string {
  return cell.length <= width ? cell : `${cell.slice(0, width - 1)}…`;
}
