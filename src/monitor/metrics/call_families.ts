import { limitRefusals } from "../../base/telemetry/refusals.js";
import { type Family, MS, one } from "./family.js";

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
    type: "counter",
    name: "cairn_refusals_total",
    help: "Requests, connections and streams that a limit refused or ended, by the limit's name.",
    collect: () => [...limitRefusals.entries()].map(([limit, value]) => ({ labels: { limit }, value })),
  },
  {
    type: "gauge",
    name: "cairn_connections",
    help: "Open gRPC connections, by kind: client, peer, late (above a limit, not known yet), ingress.",
    collect: ({ server, ingressConnections }) =>
      Object.entries({ ...server.connections, ingress: ingressConnections }).map(([kind, value]) => ({
        labels: { kind },
        value,
      })),
  },
  one(
    "counter",
    "cairn_tls_refused_connections_total",
    "Connections refused for their certificate, or for the lack of one.",
    ({ refusedConnections }) => refusedConnections,
  ),
  {
    type: "gauge",
    name: "cairn_held",
    help: "What the node holds, by kind: keys, leases, watches, session streams, remembered clients.",
    collect: ({ server }) => Object.entries(server.holdings).map(([kind, value]) => ({ labels: { kind }, value })),
  },
];
