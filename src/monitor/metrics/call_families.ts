import type { Family } from "./family.js";
import { MS } from "./family.js";

/** Metrics of the calls that a node answers, and of what it holds for its callers. */
export const callFamilies: readonly Family[] = [
  {
    type: "counter",
    name: "cairn_rpc_ended_total",
    help: "Calls that have ended, by method and by the code of their error, or OK.",
    collect: ({ server }) =>
      server.calls.methods.flatMap(({ service, method, ends }) =>
        [...ends.entries()].map(([code, value]) => ({ labels: { service, method, code }, value })),
      ),
  },
  {
    type: "gauge",
    name: "cairn_rpc_active",
    help: "Calls and streams under way, by method.",
    collect: ({ server }) =>
      server.calls.methods.map(({ service, method, active }) => ({ labels: { service, method }, value: active })),
  },
  {
    type: "histogram",
    name: "cairn_rpc_duration_seconds",
    help: "Duration of calls with one answer, by method.",
    collect: ({ server }) =>
      server.calls.methods.flatMap(({ service, method, times }) => {
        const view = times.view();
        return view.count === 0 ? [] : [{ labels: { service, method }, view, unit: MS }];
      }),
  },
  {
    type: "gauge",
    name: "cairn_held",
    help: "What the node holds, by kind: keys, leases, watches, session streams, remembered clients.",
    collect: ({ server }) => Object.entries(server.holdings).map(([kind, value]) => ({ labels: { kind }, value })),
  },
];
