import * as grpc from "@grpc/grpc-js";
import { onTestFinished } from "vitest";
import { AdminService } from "../../../gen/cairn/v1/admin_pb.js";
import { serverOptions } from "../../../src/rpc/grpc_options.js";
import { addService } from "../../../src/rpc/server.js";
import type { Issued } from "./authority.js";

/** A server of AdminService.GetStatus, by TLS. `clientAuthority` in PEM: clients must have a certificate of it. */
export async function tlsServer(
  pair: Issued,
  clientAuthority?: string,
): Promise<{ port: number; server: grpc.Server }> {
  const credentials = grpc.ServerCredentials.createSsl(
    clientAuthority === undefined ? null : Buffer.from(clientAuthority),
    [{ private_key: Buffer.from(pair.key), cert_chain: Buffer.from(pair.certificate) }],
    clientAuthority !== undefined,
  );
  return serveWith(credentials);
}

export async function serveWith(credentials: grpc.ServerCredentials): Promise<{ port: number; server: grpc.Server }> {
  const server = new grpc.Server(serverOptions);
  addService(server, AdminService, { getStatus: () => Promise.resolve({ nodeId: "n1" }) });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  onTestFinished(() => server.forceShutdown());
  return { port, server };
}
