// The attacks: each gets an address and a time, and returns what it has done, in counts.
import { connect, constants } from "node:http2";
import { gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import {
  GetRequestSchema,
  PutRequestSchema,
  RangeRequestSchema,
  SessionRequestSchema,
  WatchRequestSchema,
} from "../../dist/gen/cairn/v1/kv_pb.js";
import { GrantRequestSchema } from "../../dist/gen/cairn/v1/lease_pb.js";
import {
  callHeaders,
  frame,
  frameTypes,
  grpcMessage,
  headerFrames,
  literal,
  RawConnection,
} from "./raw_connection.mjs";

const MiB = 1024 * 1024;
const KV = "/cairn.v1.KeyValueService/";
const BIG_KEY = Buffer.from("big/0");

/** What each attack is, for the report; `needs`: what the node must hold first. */
export const attacks = {
  hpack: { run: hpack, about: "8 connections: calls whose headers are 120 references to an entry of 4 KB" },
  headers: { run: headers, about: "24 connections: calls with 60 KB of headers" },
  deaf: { run: deaf, about: "the same as hpack, from clients that never acknowledge SETTINGS" },
  continuation: { run: continuation, about: "500 connections with a header block that never ends" },
  partial: { run: partial, about: "150 connections with all but the end of a message of 4 MiB" },
  crumbs: { run: crumbs, about: "messages of 4 MiB that come a byte a frame, on 8 connections" },
  puts: {
    run: puts,
    about: "2,000 callers of puts of 1.5 MiB on 24 connections, to the leader of three nodes",
    nodes: 3,
  },
  bombs: { run: bombs, about: "2,000 callers of puts of 4 KB that inflate to 4 MiB" },
  downloads: { run: downloads, about: "200 downloads of a snapshot that nobody reads", needs: "data" },
  ranges: { run: ranges, about: "900 ranges that nobody reads", needs: "data" },
  gets: { run: gets, about: "4,000 gets of 1.5 MiB on 8 connections that nobody reads", needs: "data" },
  watches: { run: watches, about: "10,000 watches that nobody reads, under writes of 64 KiB", needs: "data" },
  sessions: { run: sessions, about: "500 sessions with 1,000 gets of 1.5 MiB each that nobody reads", needs: "data" },
  writers: { run: writers, about: "200 sessions that write 1.5 MiB at a time and read no answer" },
  connections: { run: connections, about: "6,000 connections, half of which say nothing" },
  streams: { run: streams, about: "16 connections with 4,000 calls each that send no message" },
  slow: { run: slow, about: "1,000 connections with a message that comes a byte a second" },
  waiting: { run: waiting, about: "16 connections with 4,000 calls each that never end, without a deadline" },
  resets: { run: resets, about: "8 connections that open and reset calls" },
  pings: { run: pings, about: "8 connections of PING frames" },
  settings: { run: settings, about: "8 connections of SETTINGS frames" },
  leases: { run: leases, about: "1,000 callers that grant leases" },
};

function until(seconds) {
  const end = performance.now() + seconds * 1000;
  return () => performance.now() < end;
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const times = (count, make) => Array.from({ length: count }, (_, at) => make(at));

/** Opens so many connections, a few at a time. */
async function open(count, address, options) {
  const opened = [];
  for (let at = 0; at < count; at++) {
    opened.push(new RawConnection(address, options));
    if (at % 50 === 49) await pause(5);
  }
  await pause(100);
  return opened;
}

/** Runs one loop on each connection until it is closed or the time is over; opens it again then. */
async function keepBusy(count, address, seconds, loop, options) {
  const isTime = until(seconds);
  const counts = { sent: 0, closed: 0, refused: 0 };
  await Promise.all(
    times(count, async () => {
      while (isTime()) {
        const connection = new RawConnection(address, options);
        await pause(20);
        const mayGo = () => isTime() && !connection.isClosed;
        await loop(connection, mayGo, () => counts.sent++);
        while (mayGo()) await pause(20);
        if (connection.isClosed) counts.closed++;
        counts.refused += connection.received[frameTypes.reset] ?? 0;
        connection.close();
        await pause(50);
      }
    }),
  );
  return counts;
}

/** Keeps connections as they are until the time is over, and counts those that were closed. */
async function hold(opened, seconds) {
  const isTime = until(seconds);
  while (isTime()) await pause(50);
  const closed = opened.filter(({ isClosed }) => isClosed).length;
  const refused = opened.reduce((sum, { received }) => sum + (received[frameTypes.reset] ?? 0), 0);
  for (const each of opened) each.close();
  return { connections: opened.length, closed, refused };
}

function hpack(address, seconds, options) {
  const first = callHeaders(`${KV}Put`, [literal("x", "y".repeat(4_000), true)]);
  const next = callHeaders(`${KV}Put`, [Buffer.alloc(120, 0xbe)]);
  const loop = async (connection, mayGo, sent) => {
    await connection.send(headerFrames(connection.stream(), first));
    for (let call = 0; call < 4_000 && mayGo(); call++, sent()) {
      await connection.send(headerFrames(connection.stream(), next));
      if (call % 64 === 63) await pause(1);
    }
  };
  return keepBusy(8, address, seconds, loop, options);
}

function deaf(address, seconds) {
  return hpack(address, seconds, { acknowledges: false });
}

function headers(address, seconds) {
  const more = times(60, (at) => literal(`x-header-${at}`, "v".repeat(1_000)));
  const block = callHeaders(`${KV}Put`, more);
  const loop = async (connection, mayGo, sent) => {
    for (let call = 0; call < 1_000 && mayGo(); call++, sent()) {
      await connection.send(headerFrames(connection.stream(), block));
      await pause(1);
    }
  };
  return keepBusy(24, address, seconds, loop);
}

async function continuation(address, seconds) {
  const opened = await open(500, address);
  const block = callHeaders(`${KV}Put`, [literal("x", "y".repeat(7_000))]);
  const more = times(2, () => literal("x", "y".repeat(8_000)));
  await Promise.all(
    opened.map(async (connection) => {
      await connection.send(frame(frameTypes.headers, 0, 1, block));
      for (let at = 0; at < 7; at++) await connection.send(frame(frameTypes.continuation, 0, 1, Buffer.concat(more)));
    }),
  );
  return hold(opened, seconds);
}

/** Opens HTTP/2 sessions that keep the rules of flow control. */
function openSessions(count, address) {
  return times(count, () => {
    const session = connect(`http://${address}`, { maxSessionMemory: 4_000, settings: { initialWindowSize: 65_535 } });
    session.on("error", () => {});
    session.setMaxListeners(0);
    return session;
  });
}

/** Makes a call; counts its end by gRPC status, or by RST_STREAM code. Does not read the answer if `reads` is false. */
function call(session, path, message, counts, { ends = true, reads = true, more = {}, onEnd = () => {} } = {}) {
  if (session.destroyed || session.closed) {
    counts.closed = (counts.closed ?? 0) + 1;
    setTimeout(onEnd, 50);
    return undefined;
  }
  const stream = session.request({
    ":method": "POST",
    ":path": path,
    te: "trailers",
    "content-type": "application/grpc",
    ...more,
  });
  let status;
  const note = (fields) => {
    status = fields["grpc-status"] ?? status;
  };
  stream.on("response", note).on("trailers", note);
  stream.on("error", () => {});
  stream.on("close", () => {
    const key = status === undefined ? `reset ${stream.rstCode}` : `status ${status}`;
    counts[key] = (counts[key] ?? 0) + 1;
    onEnd();
  });
  if (reads) stream.resume();
  if (ends) stream.end(message);
  else stream.write(message);
  return stream;
}

async function finish(sessions, seconds, counts) {
  await pause(seconds * 1000);
  for (const session of sessions) session.destroy();
  return { ...counts };
}

async function partial(address, seconds) {
  const counts = {};
  const sessions = openSessions(150, address);
  const message = grpcMessage(Buffer.alloc(4 * MiB, 1)).subarray(0, 4 * MiB);
  for (const session of sessions) call(session, `${KV}Put`, message, counts, { ends: false });
  return finish(sessions, seconds, counts);
}

function crumbs(address, seconds) {
  const byte = (stream) => frame(frameTypes.data, 0, stream, Buffer.from([1]));
  const loop = async (connection, mayGo, sent) => {
    const streams = times(16, () => connection.stream());
    for (const stream of streams) {
      await connection.send(headerFrames(stream, callHeaders(`${KV}Put`)));
      await connection.send(frame(frameTypes.data, 0, stream, grpcMessage(Buffer.alloc(4 * MiB)).subarray(0, 5)));
    }
    const many = Buffer.concat(streams.flatMap((stream) => times(64, () => byte(stream))));
    for (let at = 0; at < 60_000 / 64 && mayGo(); at++, sent()) await connection.send(many);
  };
  return keepBusy(8, address, seconds, loop);
}

/** Keeps so many callers busy over some connections: each calls again when it has its answer. */
async function callers(count, sessions, seconds, make) {
  const isTime = until(seconds);
  const counts = {};
  await Promise.race([
    pause(seconds * 1000),
    Promise.all(
      times(count, async (at) => {
        while (isTime()) {
          await new Promise((resolve) => make(sessions[at % sessions.length], counts, resolve, at));
          await pause(1);
        }
      }),
    ),
  ]);
  for (const session of sessions) session.destroy();
  return { ...counts };
}

function puts(address, seconds) {
  const value = Buffer.alloc(1.5 * MiB, 1);
  const messages = times(16, (at) =>
    grpcMessage(toBinary(PutRequestSchema, create(PutRequestSchema, { key: Buffer.from(`flood/${at}`), value }))),
  );
  return callers(2_000, openSessions(24, address), seconds, (session, counts, onEnd, at) =>
    call(session, `${KV}Put`, messages[at % 16], counts, { onEnd }),
  );
}

function bombs(address, seconds) {
  const value = Buffer.alloc(4 * MiB - 64);
  const packed = gzipSync(toBinary(PutRequestSchema, create(PutRequestSchema, { key: BIG_KEY, value })), { level: 9 });
  const message = grpcMessage(packed, { isCompressed: true });
  return callers(2_000, openSessions(16, address), seconds, (session, counts, onEnd) =>
    call(session, `${KV}Put`, message, counts, { onEnd, more: { "grpc-encoding": "gzip" } }),
  );
}

/** Makes calls that nobody reads, and holds them. */
function unread(connections, count, address, seconds, path, message, options = {}) {
  const counts = {};
  const sessions = openSessions(connections, address);
  for (let at = 0; at < count; at++)
    call(sessions[at % connections], path, message, counts, { reads: false, ...options });
  return finish(sessions, seconds, counts);
}

function downloads(address, seconds) {
  return unread(8, 200, address, seconds, "/cairn.v1.AdminService/DownloadSnapshot", grpcMessage(Buffer.alloc(0)));
}

function ranges(address, seconds) {
  const message = grpcMessage(toBinary(RangeRequestSchema, create(RangeRequestSchema, { stale: true })));
  return unread(8, 900, address, seconds, `${KV}Range`, message);
}

function gets(address, seconds) {
  const message = grpcMessage(toBinary(GetRequestSchema, create(GetRequestSchema, { key: BIG_KEY, stale: true })));
  return unread(8, 4_000, address, seconds, `${KV}Get`, message);
}

async function watches(address, seconds) {
  const message = grpcMessage(toBinary(WatchRequestSchema, create(WatchRequestSchema, {})));
  const value = Buffer.alloc(64 * 1024, 1);
  const put = grpcMessage(toBinary(PutRequestSchema, create(PutRequestSchema, { key: Buffer.from("flood/w"), value })));
  const [counts] = await Promise.all([
    unread(8, 10_000, address, seconds, `${KV}Watch`, message),
    callers(8, openSessions(1, address), seconds, (session, ignored, onEnd) =>
      call(session, `${KV}Put`, put, ignored, { onEnd }),
    ),
  ]);
  return counts;
}

/** Opens Session streams, each of which sends these messages and reads nothing. */
function openCalls(count, connections, address, seconds, messagesOf) {
  const counts = {};
  const sessions = openSessions(connections, address);
  for (let at = 0; at < count; at++) {
    const hello = { clientId: `flood-${process.pid}-${at}` };
    const stream = call(sessions[at % connections], `${KV}Session`, session(hello), counts, {
      ends: false,
      reads: false,
    });
    for (const message of messagesOf(at)) stream?.write(message);
  }
  return finish(sessions, seconds, counts);
}

function session(fields) {
  return grpcMessage(toBinary(SessionRequestSchema, create(SessionRequestSchema, fields)));
}

function sessions(address, seconds) {
  const calls = times(1_000, (at) => ({
    sequence: BigInt(at + 1),
    call: { case: "get", value: { key: BIG_KEY, stale: true } },
  }));
  const message = session({ calls });
  return openCalls(500, 8, address, seconds, () => [message]);
}

function writers(address, seconds) {
  const value = Buffer.alloc(1.5 * MiB, 1);
  const messages = times(20, (at) =>
    session({
      calls: [{ sequence: BigInt(at + 1), call: { case: "put", value: { key: Buffer.from(`flood/${at}`), value } } }],
    }),
  );
  return openCalls(200, 24, address, seconds, () => messages);
}

async function connections(address, seconds) {
  const [silent, greeting] = [await open(3_000, address, { greets: false }), await open(3_000, address)];
  return hold([...silent, ...greeting], seconds);
}

function streams(address, seconds) {
  const block = callHeaders(`${KV}Put`);
  const loop = async (connection, mayGo, sent) => {
    for (let call = 0; call < 4_000 && mayGo(); call++, sent()) {
      await connection.send(headerFrames(connection.stream(), block));
      if (call % 64 === 63) await pause(1);
    }
  };
  return keepBusy(16, address, seconds, loop);
}

async function slow(address, seconds) {
  const opened = await open(1_000, address);
  const isTime = until(seconds);
  for (const connection of opened) {
    await connection.send(headerFrames(1, callHeaders(`${KV}Put`)));
    await connection.send(frame(frameTypes.data, 0, 1, grpcMessage(Buffer.alloc(4 * MiB)).subarray(0, 5)));
  }
  while (isTime()) {
    for (const connection of opened) await connection.send(frame(frameTypes.data, 0, 1, Buffer.from([1])));
    await pause(1_000);
  }
  return hold(opened, 0);
}

async function waiting(address, seconds) {
  const counts = {};
  const sessions = openSessions(16, address);
  const request = create(GetRequestSchema, { key: BIG_KEY, stale: true, minAppliedIndex: 2n ** 40n });
  const message = grpcMessage(toBinary(GetRequestSchema, request));
  for (let at = 0; at < 64_000; at++) {
    call(sessions[at % 16], `${KV}Get`, message, counts);
    if (at % 500 === 499) await pause(5);
  }
  return finish(sessions, seconds, counts);
}

function resets(address, seconds) {
  const block = callHeaders(`${KV}Get`);
  const code = Buffer.alloc(4);
  code.writeUInt32BE(constants.NGHTTP2_CANCEL);
  const loop = async (connection, mayGo, sent) => {
    while (mayGo()) {
      const both = times(32, () => {
        const stream = connection.stream();
        return Buffer.concat([headerFrames(stream, block), frame(frameTypes.reset, 0, stream, code)]);
      });
      await connection.send(Buffer.concat(both));
      for (let at = 0; at < 32; at++) sent();
      await pause(1);
    }
  };
  return keepBusy(8, address, seconds, loop);
}

function repeat(bytes) {
  return async (connection, mayGo, sent) => {
    while (mayGo()) {
      await connection.send(bytes);
      sent();
      await pause(1);
    }
  };
}

function pings(address, seconds) {
  const one = frame(frameTypes.ping, 0, 0, Buffer.alloc(8));
  return keepBusy(8, address, seconds, repeat(Buffer.concat(times(200, () => one))));
}

function settings(address, seconds) {
  const one = frame(frameTypes.settings, 0, 0, Buffer.from([0, 4, 0, 1, 0, 0]));
  return keepBusy(8, address, seconds, repeat(Buffer.concat(times(200, () => one))));
}

function leases(address, seconds) {
  const message = grpcMessage(toBinary(GrantRequestSchema, create(GrantRequestSchema, { ttlMs: 600_000 })));
  return callers(1_000, openSessions(8, address), seconds, (session, counts, onEnd) =>
    call(session, "/cairn.v1.LeaseService/Grant", message, counts, { onEnd }),
  );
}
