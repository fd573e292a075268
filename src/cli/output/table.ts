/** Width to which no column is cut further. */
const NARROWEST = 6;

const GAP = "  ";

/**
 * Formats columns of text, each as wide as its widest cell. On a terminal, the widest columns are
 * cut until the table fits, with an ellipsis; a pipe gets everything.
 */
export function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  terminalColumns: number | undefined = process.stdout.isTTY ? process.stdout.columns : undefined,
): string {
  const natural = head.map((title, at) => Math.max(title.length, ...rows.map((row) => (row[at] ?? "").length)));
  const widths = terminalColumns === undefined ? natural : fitted(natural, terminalColumns);
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, at) => cut(cell, widths[at]!).padEnd(widths[at]!))
      .join(GAP)
      .trimEnd();
  return [head, ...rows].map(line).join("\n");
}

/** Takes from the widest column, one at a time, until the line fits or nothing is left to take. */
function fitted(natural: readonly number[], columns: number): number[] {
  const widths = [...natural];
  const gaps = GAP.length * (widths.length - 1);
  let excess = widths.reduce((sum, width) => sum + width, gaps) - columns;
  while (excess-- > 0) {
    const widest = Math.max(...widths);
    if (widest <= NARROWEST) break;
    // Of equal ones the last: the first columns name what a row is about.
    widths[widths.lastIndexOf(widest)]!--;
  }
  return widths;
}

function cut(cell: string, width: number): string {
  return cell.length <= width ? cell : `${cell.slice(0, width - 1)}…`;
}
