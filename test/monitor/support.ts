import { onTestFinished } from "vitest";
import { Monitor, type MonitorOptions } from "../../src/monitor/monitor.js";
import type { Monitored } from "../../src/monitor/monitored.js";
import { silentLogger } from "../../src/system/logger.js";
import { serve } from "../support/nodes/served_node.js";

type Given = Partial<Pick<MonitorOptions, "hosts" | "listen" | "access" | "security">>;

/** A monitor of what `monitored` returns. */
export async function monitorOf(monitored: () => Monitored | undefined, given: Given = {}) {
  const options = { listen: "127.0.0.1:0", directory: ".", logger: silentLogger, monitored, ...given };
  const monitor = await Monitor.start(options);
  onTestFinished(() => monitor.stop());
  const { url } = monitor;
  return { monitor, url, get: (path: string, init?: RequestInit) => fetch(`${url}${path}`, init) };
}

/** A node that leads alone, is served and is shown. */
export async function shownLeader(given: Given = {}) {
  const served = await serve({ lead: true });
  return { ...served, ...(await monitorOf(() => served, given)) };
}

/** The samples of a scrape by name and labels: `cairn_x{a="b"}`. */
export function samplesOf(text: string): Map<string, number> {
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => {
      const space = line.lastIndexOf(" ");
      return [line.slice(0, space), Number(line.slice(space + 1))];
    }),
  );
}
