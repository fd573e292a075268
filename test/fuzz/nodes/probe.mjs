// Loaded into a node that is fuzzed: at SIGUSR2 it collects garbage, and says what the process holds.
const PROBE_MARK = "cairn-fuzz-probe ";

process.on("SIGUSR2", () => {
  globalThis.gc();
  // What finalizers have released goes with the second collection.
  setImmediate(() => {
    globalThis.gc();
    const { heapUsed, external, rss } = process.memoryUsage();
    const resources = {};
    for (const name of process.getActiveResourcesInfo()) resources[name] = (resources[name] ?? 0) + 1;
    process.stderr.write(`${PROBE_MARK}${JSON.stringify({ heapUsed, external, rss, resources })}\n`);
  });
});
