import { version } from "../../base/version.js";
import { healthVerdicts } from "../../node/health/health.js";
import { warningsOf } from "../monitored.js";
import type { ProcessFigures } from "../process_figures.js";
import { type Family, MS, one } from "./family.js";

/** Returns metrics of a node's process, its machine and its health. */
export function processFamilies(figures: ProcessFigures): readonly Family[] {
  const { loopDelay } = figures;
  return [
    {
      type: "gauge",
      name: "cairn_build_info",
      help: "1; the labels tell the version of Cairn and of Node.js, and the node.",
      collect: ({ node }) => [
        { labels: { version, node_version: process.version, node: node.id, cluster: node.clusterId }, value: 1 },
      ],
    },
    one(
      "gauge",
      "process_start_time_seconds",
      "Start of the process, in seconds since 1970.",
      () => Math.round(performance.timeOrigin) / 1_000,
    ),
    one("counter", "process_cpu_seconds_total", "CPU time of the process.", () => {
      const { user, system } = process.cpuUsage();
      return (user + system) / 1_000_000;
    }),
    one("gauge", "process_resident_memory_bytes", "Resident memory of the process.", () => process.memoryUsage.rss()),
    one("gauge", "cairn_heap_used_bytes", "Heap of JavaScript in use.", () => process.memoryUsage().heapUsed),
    one(
      "gauge",
      "cairn_external_memory_bytes",
      "Memory of buffers and native objects.",
      () => process.memoryUsage().external,
    ),
    one("gauge", "process_open_fds", "Open file descriptors.", () => figures.latest.openDescriptors),
    one("gauge", "process_max_fds", "Limit of open file descriptors.", () => figures.latest.maxDescriptors),
    one(
      "gauge",
      "cairn_disk_free_bytes",
      "Free bytes on the disk of the data directory.",
      () => figures.latest.diskFreeBytes,
    ),
    one(
      "gauge",
      "cairn_disk_size_bytes",
      "Size of the disk of the data directory.",
      () => figures.latest.diskSizeBytes,
    ),
    {
      type: "gauge",
      name: "cairn_event_loop_delay_seconds",
      help: "Delay of the event loop over the last 10 s, by quantile.",
      collect: () =>
        (["0.5", "0.99", "1"] as const).map((quantile) => ({
          labels: { quantile },
          value: loopDelay(Number(quantile)),
        })),
    },
    {
      type: "gauge",
      name: "cairn_health",
      help: "1 for the verdict on this node, 0 for the others.",
      collect: ({ node }) => {
        const [own] = node.fitness.health;
        return healthVerdicts.map((verdict) => ({ labels: { verdict }, value: own?.verdict === verdict ? 1 : 0 }));
      },
    },
    {
      type: "gauge",
      name: "cairn_certificate_expiry_timestamp_seconds",
      help: "End of each certificate in use.",
      collect: ({ certificates = [] }) =>
        certificates.map(({ use, subject, expiresMs }) => ({ labels: { use, subject }, value: expiresMs * MS })),
    },
    one(
      "gauge",
      "cairn_warnings",
      "Problems that need an operator; the status and the page tell them in words.",
      (from) => warningsOf(from).length,
    ),
  ];
}
