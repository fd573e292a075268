import { once } from "node:events";
import { type ClientHttp2Session, connect, constants, createServer, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";

// Stands before a node, passes HTTP/2 calls on to it, and records the messages of their requests.

/** Receives each message, with the method's path without its first slash. */
export type Recorder = (method: string, message: Buffer) => void;

export interface RecordingProxy {
  readonly address: string;
  close(): void;
}

/** Starts a proxy on loopback, before the node at `target` (host:port), which need not listen yet. */
export async function startProxy(target: () => string, record: Recorder): Promise<RecordingProxy> {
  const server = createServer();
  const sessions = new Set<{ destroy(): void }>();
  server.on("session", (session) => {
    sessions.add(session);
    let upstream: ClientHttp2Session | undefined;
    session.on("error", () => {});
    session.on("close", () => upstream?.destroy());
    session.on("stream", (stream, headers) => {
      if (upstream === undefined) {
        upstream = connect(`http://${target()}`);
        upstream.on("error", () => session.destroy());
        upstream.on("close", () => session.destroy());
        sessions.add(upstream);
      }
      if (upstream.destroyed) stream.close(constants.NGHTTP2_REFUSED_STREAM);
      else passOn(stream, headers, upstream, record);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    close() {
      for (const session of sessions) session.destroy();
      server.close();
    },
  };
}

function passOn(
  stream: ServerHttp2Stream,
  headers: Record<string, unknown>,
  upstream: ClientHttp2Session,
  record: Recorder,
): void {
  const call = upstream.request(headers as Record<string, string>, { endStream: false });
  const method = String(headers[":path"]).slice(1);
  let rest = Buffer.alloc(0);
  stream.on("data", (data: Buffer) => {
    call.write(data);
    rest = Buffer.concat([rest, data]);
    while (rest.byteLength >= 5 && rest.byteLength >= 5 + rest.readUInt32BE(1)) {
      const end = 5 + rest.readUInt32BE(1);
      record(method, Buffer.from(rest.subarray(5, end)));
      rest = rest.subarray(end);
    }
  });
  stream.on("end", () => call.end());
  stream.on("error", () => {});
  stream.on("close", () => call.close(stream.rstCode));
  let trailers: Record<string, string> = {};
  let hasAnswered = false;
  call.on("response", (answer, flags) => {
    if (stream.destroyed) return;
    const isWhole = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0;
    hasAnswered = !isWhole;
    stream.respond(answer, isWhole ? { endStream: true } : { waitForTrailers: true });
  });
  call.on("data", (data: Buffer) => stream.write(data));
  call.on("trailers", (received) => {
    trailers = received as Record<string, string>;
  });
  stream.on("wantTrailers", () => stream.sendTrailers(withoutPseudo(trailers)));
  call.on("error", () => {});
  call.on("close", () => {
    if (call.rstCode === constants.NGHTTP2_NO_ERROR && hasAnswered) stream.end();
    else if (call.rstCode !== constants.NGHTTP2_NO_ERROR) stream.close(call.rstCode);
  });
}

function withoutPseudo(headers: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !name.startsWith(":")));
}
