// Prints figures as Markdown tables, aligned for a terminal.

/** Stands for a figure that was not measured. */
export const NONE = "-";

/** Returns a page with a text between its marks of that name, in place of an earlier one. */
export function withReport(page, name, text) {
  const [beginMark, endMark] = ["begin", "end"].map((which) => `<!-- ${name}:${which} -->`);
  const [begin, end] = [page.indexOf(beginMark), page.indexOf(endMark)];
  if (begin < 0 || end < begin) throw new Error(`the page has no ${beginMark} followed by ${endMark}`);
  return `${page.slice(0, begin + beginMark.length)}\n\n${text}\n\n${page.slice(end)}`;
}

/** A Markdown table whose columns are aligned: the first one left, the others right. */
export function table(head, body) {
  const widths = head.map((title, at) => Math.max(3, title.length, ...body.map((cells) => cells[at].length)));
  const line = (cells) => {
    const padded = cells.map((cell, at) => (at === 0 ? cell.padEnd(widths[at]) : cell.padStart(widths[at])));
    return `| ${padded.join(" | ")} |`;
  };
  const rule = widths.map((width, at) => (at === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`));
  return [line(head), `| ${rule.join(" | ")} |`, ...body.map(line)].join("\n");
}

/** A figure with three significant digits or more, thousands apart. */
export function figure(value, unit = "") {
  if (value === undefined || !Number.isFinite(value)) return NONE;
  const digits = Math.abs(value) >= 99.95 ? 0 : Math.abs(value) >= 9.995 ? 1 : 2;
  const text = value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return unit === "" ? text : `${text} ${unit}`;
}

/** The machine of a result (see machine.mjs), in a line. */
export function machineInWords({ processor, memoryBytes, system, node, fileSystem, syncMs }) {
  const memory = `${Math.round(memoryBytes / 2 ** 30)} GiB`;
  const disk = `${fileSystem}, 4 KiB appended and synced in ${figure(syncMs)} ms`;
  return `${processor}, ${memory}, ${system}, Node.js ${node}; ${disk}.`;
}

export function firstLine(text) {
  return text.split("\n", 1)[0];
}
