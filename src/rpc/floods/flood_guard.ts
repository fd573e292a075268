import { constants, type IncomingHttpHeaders, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type * as grpc from "@grpc/grpc-js";
import type { CairnError } from "../../base/errors.js";
import { type LimitName, limitRefusals, overLimit } from "../../base/telemetry/refusals.js";
import { AnswerRoom } from "./answer_room.js";
import { Connection, type ConnectionKind } from "./connection.js";
import { Connections } from "./connections.js";
import { type FloodLimits, floodLimits } from "./flood_limits.js";
import { overFloodLimit, refuseStream } from "./refusal.js";
import { RequestBudget } from "./request_budget.js";
import { type InsideCall, ServedStream, type Shared, servedStream } from "./served_stream.js";

/** Interval between two looks at all connections and streams, in milliseconds. */
const LOOK_MS = 250;
/** Time between two searches for messages that stall, in milliseconds. */
const SEARCH_MS = 50;
/** Time for a caller to end its half of a call that is answered, in milliseconds. */
const LINGER_MS = 2_000;
/** A connection may send headers of so many largest calls before it acknowledges the settings. */
const UNACKNOWLEDGED_CALLS = 16;
/** Bytes that HTTP/2 counts for a header field besides its name and its value. */
const FIELD_BYTES = 32;
/** Calls with headers that are too large, after which a connection is closed. */
const LARGE_HEADERS = 16;
/** A connection is closed at once when a call has headers of so many times the limit. */
const HOSTILE_FACTOR = 8;
/** Part of the streams that connections may have regardless of their share. */
const FREE_PART = 0.75;

const ignore = () => {};

/** Tells calls of peers from all others. */
export type PeerTest = (path: string, session: ServerHttp2Session, headers: IncomingHttpHeaders) => boolean;

export interface FloodGuardOptions {
  readonly limits?: Partial<FloodLimits> | undefined;
  /** Whether a call is that of a peer, which has room that clients have not. Default: none is. */
  readonly isPeer?: PeerTest;
  /**
   * Returns how many connections may be those of peers now, if that is less than the limit
   * `peerConnections`. To be given where anybody can pass for a peer.
   */
  readonly peerRoom?: (() => number) | undefined;
  /** Whether calls of this path may take their time. */
  readonly isPatient?: (path: string) => boolean;
}

/**
 * Keeps what callers make a server hold within its limits: connections, streams, bytes of requests
 * and of answers, and the time for which each may be idle.
 */
export class FloodGuard implements Shared {
  readonly limits: FloodLimits;
  readonly answers: AnswerRoom;
  readonly #connections: Connections;
  readonly #bySession = new Map<ServerHttp2Session, Connection>();
  readonly #streams = new Set<ServedStream>();
  readonly #requests: RequestBudget;
  readonly #peerRequests: RequestBudget;
  readonly #isPeer: PeerTest;
  readonly #isPatient: (path: string) => boolean;
  #peerStreams = 0;
  /** Streams of requests with a message that waits for room, in the order in which they came. */
  #held: ServedStream[] = [];
  #retry: NodeJS.Immediate | undefined;
  #searchedAt = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor({ limits, isPeer = () => false, peerRoom, isPatient = () => false }: FloodGuardOptions = {}) {
    this.limits = floodLimits(limits);
    this.answers = new AnswerRoom(this.limits);
    this.#connections = new Connections(this.limits, peerRoom);
    const reserve = Math.min(this.limits.smallRequestReserveBytes, this.limits.requestBytes / 4);
    this.#requests = new RequestBudget(this.limits.requestBytes, reserve);
    this.#peerRequests = new RequestBudget(this.limits.peerRequestBytes, 0);
    this.#isPeer = isPeer;
    this.#isPatient = isPatient;
  }

  /** A connection is open. */
  opened(session: ServerHttp2Session): void {
    const address = session.socket.remoteAddress ?? "unknown";
    const connection = new Connection(session, address, this.#connections.kindFor(address), Date.now());
    this.#bySession.set(session, connection);
    this.#connections.add(connection);
    this.#timer ??= setInterval(() => this.look(Date.now()), LOOK_MS).unref();
    session.once("localSettings", () => {
      connection.hasAcknowledged = true;
    });
    const count = () => {
      if (++connection.controlFrames > this.limits.controlFramesPerSecond) connection.end("controlFramesPerSecond");
    };
    session.on("ping", count);
    session.on("remoteSettings", count);
    session.once("close", () => this.#closed(session, connection));
  }

  /** A stream is open. Returns false when it was refused: nobody else may answer it. */
  admit(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, rawHeaders: readonly string[]): boolean {
    // A stream that breaks before grpc-js listens to it must not end the process.
    stream.on("error", ignore);
    const connection = stream.session && this.#bySession.get(stream.session as ServerHttp2Session);
    // The connection is gone, or goes at the end of this turn: Node hands over hundreds of calls of
    // one read before that, and an answer to each would cost a write.
    if (connection === undefined || connection.isEnding) return false;
    const bytes = headerBytesOf(rawHeaders);
    const tooLarge = this.#tooLargeHeaders(connection, rawHeaders.length / 2, bytes);
    if (tooLarge !== undefined) {
      limitRefusals.add(tooLarge);
      if (++connection.largeHeaders > LARGE_HEADERS || bytes > this.limits.headerBytes * HOSTILE_FACTOR) {
        connection.destroy();
      } else stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
      return false;
    }
    const path = headers[":path"] as string | undefined;
    const { session } = connection;
    const refusal = this.#connections.admit(connection, path !== undefined && this.#isPeer(path, session, headers));
    const isPeer = connection.kind === "peer";
    const now = Date.now();
    const served = new ServedStream(
      stream,
      connection,
      isPeer,
      path !== undefined && this.#isPatient(path),
      now,
      isPeer ? this.#peerRequests : this.#requests,
      this,
    );
    this.#add(served);
    if (isPeer) connection.widen();
    if (refusal !== undefined) {
      refuseStream(stream, refusal);
      connection.close();
      return false;
    }
    const tooMany = this.#tooManyStreams(served);
    if (tooMany === undefined) return true;
    refuseStream(stream, tooMany);
    return false;
  }

  /** Counts what the calls of a grpc-js server receive and send. It must be the first of all. */
  readonly interceptor: grpc.ServerInterceptor = (method, call) => {
    const inside = call as unknown as InsideCall;
    servedStream(inside.stream)?.attach(inside, method);
    return call as unknown as grpc.ServerInterceptingCall;
  };

  takeRequest(stream: ServedStream, bytes: number): boolean {
    const { budget, share } = stream;
    if (budget.take(share, bytes)) return true;
    return this.#refuseStalling(stream) && budget.take(share, bytes);
  }

  /** Bytes of clients' requests that are being received or held. */
  get requestsTaken(): number {
    return this.#requests.taken;
  }

  /** Number of connections, by the part that they play. */
  get connectionCounts(): Readonly<Record<ConnectionKind, number>> {
    return this.#connections.counts;
  }

  /** The connections that are open. */
  get sessions(): IterableIterator<ServerHttp2Session> {
    return this.#bySession.keys();
  }

  /** Streams with a message that waits for room. */
  get heldStreams(): number {
    return this.#held.length;
  }

  held(stream: ServedStream): void {
    this.#held.push(stream);
  }

  released(): void {
    if (this.#held.length > 0) this.#retry ??= setImmediate(() => this.#tryHeld());
  }

  tooManyBytes({ isPeer, budget }: ServedStream): CairnError {
    const taken = `the node holds ${budget.taken} bytes of request messages`;
    return overFloodLimit(this.limits, isPeer ? "peerRequestBytes" : "requestBytes", taken);
  }

  /** Ends what has been idle or slow for too long. */
  look(now: number): void {
    for (const connection of this.#connections) this.#lookAtConnection(connection, now);
    const slow = this.answers.isFull ? "slowReaderMsUnderPressure" : "slowReaderMs";
    for (const stream of this.#streams) this.#lookAtStream(stream, now, slow);
    if (this.answers.unsent > this.limits.answerBytes * 2) this.#cutOffLargest();
    this.answers.wakeAll();
    this.#tryHeld();
  }

  /** Reads held messages for which there is room; the others are held again. */
  #tryHeld(): void {
    this.#retry = undefined;
    const held = this.#held;
    this.#held = [];
    for (const stream of held) stream.tryAgain();
  }

  #lookAtConnection(connection: Connection, now: number): void {
    const { greetingMs, connectionIdleMs, lateConnectionMs, controlFramesPerSecond } = this.limits;
    const ageMs = now - connection.openedAt;
    connection.controlFrames = Math.max(0, connection.controlFrames - (controlFramesPerSecond * LOOK_MS) / 1_000);
    const isLate = connection.kind === "late" && ageMs > lateConnectionMs;
    if (isLate) connection.end("lateConnectionMs");
    else if (!connection.hasAcknowledged && ageMs > greetingMs) connection.end("greetingMs");
    else if (connection.kind !== "peer" && connection.isIdle(now, connectionIdleMs)) connection.close();
  }

  #lookAtStream(stream: ServedStream, now: number, slow: "slowReaderMs" | "slowReaderMsUnderPressure"): void {
    const { messageMs, messageRateBytes } = this.limits;
    const limit = stream.isPeer ? "slowReaderMs" : slow;
    if (stream.stalledMs(now) > this.limits[limit]) this.#cutOff(stream, limit);
    else if (stream.isLate(now, messageMs, messageRateBytes)) stream.refuse(this.#tooSlow());
    else if (stream.isUnanswered(now, this.limits)) stream.refuse(this.#tooLong());
    else stream.closeIfLingering(now, LINGER_MS);
  }

  /** Refuses large messages that come too slowly for a node whose room is taken. */
  #refuseStalling({ budget }: ServedStream): boolean {
    const now = Date.now();
    if (now - this.#searchedAt < SEARCH_MS) return false;
    this.#searchedAt = now;
    const before = budget.taken;
    for (const stream of this.#streams) {
      if (stream.budget === budget && stream.isStalling) stream.refuse(this.tooManyBytes(stream));
    }
    return budget.taken < before;
  }

  /** Ends the streams with most of what waits to be sent, until there is room. */
  #cutOffLargest(): void {
    const waiting = [...this.#streams].filter(({ unsent, isPeer }) => unsent > 0 && !isPeer);
    let left = this.answers.unsent;
    for (const stream of waiting.sort((a, b) => b.unsent - a.unsent)) {
      if (left <= this.limits.answerBytes) return;
      left -= stream.unsent;
      this.#cutOff(stream, "answerBytes");
    }
  }

  #cutOff(stream: ServedStream, limit: LimitName): void {
    limitRefusals.add(limit);
    stream.cutOff();
    if (++stream.connection.cutOff > this.limits.slowReaderStreams) stream.connection.end("slowReaderStreams");
  }

  /** Returns the limit above which the headers of a call are, if any. */
  #tooLargeHeaders(connection: Connection, pairs: number, bytes: number): LimitName | undefined {
    const { headerPairs, headerBytes } = this.limits;
    if (pairs > headerPairs) return "headerPairs";
    if (bytes > headerBytes) return "headerBytes";
    if (connection.hasAcknowledged) return undefined;
    connection.headerBytes += bytes;
    return connection.headerBytes <= headerBytes * UNACKNOWLEDGED_CALLS ? undefined : "headerBytes";
  }

  #tooManyStreams({ connection, isPeer }: ServedStream): CairnError | undefined {
    const name = isPeer ? "peerStreams" : "streams";
    const count = isPeer ? this.#peerStreams : this.#streams.size - this.#peerStreams;
    const most = this.limits[name];
    if (count <= most * FREE_PART) return undefined;
    const hasShare = connection.streams <= most / (this.#bySession.size + 1);
    if (hasShare && count <= most) return undefined;
    // Streams that were refused count until they are gone: their caller may not let them go.
    if (!hasShare && count > most * 1.25) connection.destroy();
    return overFloodLimit(this.limits, name, `the node has ${count} calls under way`);
  }

  #add(stream: ServedStream): void {
    const { connection, isPeer } = stream;
    this.#streams.add(stream);
    connection.streams++;
    if (isPeer) this.#peerStreams++;
    stream.stream.once("close", () => {
      stream.closed();
      this.#streams.delete(stream);
      if (isPeer) this.#peerStreams--;
      if (--connection.streams === 0) connection.idleSince = Date.now();
    });
  }

  #closed(session: ServerHttp2Session, connection: Connection): void {
    this.#bySession.delete(session);
    this.#connections.remove(connection);
    this.answers.wakeAll();
    if (this.#bySession.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #tooSlow(): CairnError {
    const { messageMs, messageRateBytes } = this.limits;
    const most = `messageMs (${messageMs} ms) and messageRateBytes (${messageRateBytes} bytes a second)`;
    return overLimit("TIMEOUT", "messageMs", `the request did not come in time: the limits are ${most}`);
  }

  #tooLong(): CairnError {
    const { callMs, callMsMax } = this.limits;
    const text = `the call had no answer in callMs (${callMs} ms), or with a deadline in callMsMax (${callMsMax} ms)`;
    return overLimit("TIMEOUT", "callMs", `${text}: a write may or may not take effect`);
  }
}

/** Returns the size of headers, names and values in turn, as HTTP/2 counts it. */
function headerBytesOf(rawHeaders: readonly string[]): number {
  return rawHeaders.reduce((sum, text) => sum + text.length, (rawHeaders.length / 2) * FIELD_BYTES);
}
