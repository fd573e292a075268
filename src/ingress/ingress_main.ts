/** The program of an ingress process. The node's process starts it, and it ends with that one. */

import type { Socket } from "node:net";
import { CairnError } from "../base/errors.js";
import { type LimitName, limitRefusals } from "../base/telemetry/refusals.js";
import { NodeTls, type TlsEvent } from "../rpc/security/node_tls.js";
import { IngressServer } from "./ingress_server.js";
import { DRAIN_MS, type FromIngress, TELL_MS, type ToIngress } from "./messages.js";

// grpc-js would print problems that the errors already report.
process.env.GRPC_VERBOSITY ??= "NONE";

let server: IngressServer | undefined;
let isStopping = false;

process.on("message", (message: ToIngress, connection?: Socket) => {
  switch (message.kind) {
    case "serve":
      void serve(message);
      break;
    case "connection":
      if (connection === undefined) send({ kind: "closed" });
      else take(connection);
      send({ kind: "taken" });
      break;
    case "stop":
      stop();
  }
});

// The node is gone, in whatever way. Its clients get their errors, then this process ends.
process.on("disconnect", stop);

// A signal for the whole group, as Ctrl-C is, is also the node's, which then stops this process.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => {});

async function serve({ node, limits, tls: files, tellsClients }: ToIngress & { kind: "serve" }): Promise<void> {
  try {
    // The node tells of changed files and of certificates that end: it has the same ones.
    const onEvent = (event: TlsEvent) => event.kind === "refused" && send(event);
    const tls = files && (await NodeTls.open(files, { onEvent }));
    server = new IngressServer(node, {
      limits,
      tls,
      tellsClients,
      onUnexpectedError: (error, method) => failed(error, method),
    });
    setInterval(tellRefusals, TELL_MS).unref();
    send({ kind: "ready" });
  } catch (error) {
    // The node knows by then why this process ends.
    failed(error, undefined, () => process.exit(1));
  }
}

function take(connection: Socket): void {
  connection.once("close", () => send({ kind: "closed" }));
  connection.on("error", () => {});
  if (isStopping) connection.destroy();
  else server?.take(connection);
}

function stop(): void {
  if (isStopping) return;
  isStopping = true;
  // Calls that neither end nor break must not keep it.
  setTimeout(() => process.exit(), DRAIN_MS + 500);
  void (server?.stop() ?? Promise.resolve()).then(() => process.exit());
}

function failed(error: unknown, method?: string, told?: () => void): void {
  const { name, message, stack } = error instanceof Error ? error : CairnError.from(error);
  send({ kind: "failed", method, error: { name, message, stack } }, told);
}

/** Refusals that the node was told of, by limit. */
const counted = new Map<LimitName, number>();

function tellRefusals(): void {
  const refusals = [...limitRefusals.entries()]
    .map(([limit, times]) => [limit, times - (counted.get(limit) ?? 0)] as const)
    .filter(([, times]) => times > 0);
  if (refusals.length === 0) return;
  for (const [limit, times] of refusals) counted.set(limit, (counted.get(limit) ?? 0) + times);
  send({ kind: "limited", refusals });
}

function send(message: FromIngress, sent: () => void = () => {}): void {
  // The node may be gone; "disconnect" tells.
  if (process.connected) process.send?.(message, undefined, {}, sent);
}
