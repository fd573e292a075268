import type { Server } from "node:net";
import { CairnError } from "../base/errors.js";

/** The words in which a listener's errors are told. */
export interface ListenerWords {
  /** Name of the address: "ingress address". */
  readonly address: string;
  /** Beginning of the error when it cannot listen: "cannot take client connections on". */
  readonly failure: string;
}

/** An address to listen on. */
export interface ListenAddress {
  readonly text: string;
  /** As given, with brackets around an IPv6 address. */
  readonly host: string;
  /** As `listen` of Node takes it. */
  readonly bare: string;
  readonly port: number;
}

/** Reads host:port. @throws CairnError INVALID_ARGUMENT */
export function listenAddressOf(text: string, words: ListenerWords): ListenAddress {
  const [, host, v6, port] = /^(\[(.+)\]|[^[\]]+):(\d{1,5})$/.exec(text) ?? [];
  if (host === undefined || Number(port) > 65_535) {
    throw new CairnError("INVALID_ARGUMENT", `${words.address} ${JSON.stringify(text)} must be host:port`);
  }
  return { text, host, bare: v6 ?? host, port: Number(port) };
}

/**
 * Makes a server listen; port 0 takes a free one. Resolves with host:port, with the real port.
 * @throws CairnError INVALID_ARGUMENT when it cannot
 */
export async function listenAt(server: Server, { text, host, bare, port }: ListenAddress, words: ListenerWords) {
  await new Promise<void>((resolve, reject) => {
    const failed = (cause: NodeJS.ErrnoException) => {
      const reason = cause.code === "EADDRINUSE" ? "the address is in use" : cause.message;
      reject(new CairnError("INVALID_ARGUMENT", `${words.failure} ${text}: ${reason}`, { cause }));
    };
    server.once("error", failed);
    server.listen({ host: bare, port }, () => {
      server.removeListener("error", failed);
      resolve();
    });
  });
  const bound = server.address();
  return `${host}:${typeof bound === "object" && bound !== null ? bound.port : port}`;
}
