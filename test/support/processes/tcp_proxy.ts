import { once } from "node:events";
import { type AddressInfo, createServer, type Server, Socket } from "node:net";

/** What a link does to the bytes that pass. */
export interface LinkFaults {
  /** Added to the way of every byte, each direction, in milliseconds. */
  readonly delayMs: number;
  /** At most so many bytes a second, each direction. */
  readonly bytesPerSecond: number;
  /** Neither passes anything on nor closes anything: the far end has gone away without a word. */
  readonly silent: boolean;
  /** Connections end at once, and new ones too. */
  readonly cut: boolean;
}

const HEALTHY: LinkFaults = { delayMs: 0, bytesPerSecond: Number.POSITIVE_INFINITY, silent: false, cut: false };

/** Bytes that one direction of a connection holds before it stops reading: what a slow link has in flight. */
const IN_FLIGHT_BYTES = 256 * 1024;

/** One-way road to a server: what connects here is connected to the target, with the link's faults in between. */
export class TcpProxy {
  readonly #connections = new Set<Connection>();
  faults: LinkFaults = HEALTHY;
  /** Bytes passed on towards the target, and back. */
  forwardedBytes = 0;
  returnedBytes = 0;

  private constructor(
    private readonly server: Server,
    private readonly target: () => string,
  ) {
    server.on("connection", (socket) => this.#accept(socket));
  }

  /** Listens on a free port of loopback. `target` gives host:port at each new connection. */
  static async start(target: () => string): Promise<TcpProxy> {
    const server = createServer({ noDelay: true, pauseOnConnect: true });
    const proxy = new TcpProxy(server, target);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return proxy;
  }

  get address(): string {
    return `127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Connections that pass through. */
  get connections(): number {
    return this.#connections.size;
  }

  /** Changes the link from now on; what is left out is healthy. */
  set(faults: Partial<LinkFaults>): void {
    this.faults = { ...HEALTHY, ...faults };
    if (this.faults.cut) this.breakConnections();
    for (const connection of this.#connections) connection.changed();
  }

  /** Ends what is connected now; new connections are as before. */
  breakConnections(): void {
    for (const connection of this.#connections) connection.end();
  }

  async stop(): Promise<void> {
    this.server.close();
    this.breakConnections();
    await once(this.server, "close");
  }

  #accept(near: Socket): void {
    if (this.faults.cut) {
      near.resetAndDestroy();
      return;
    }
    const connection = new Connection(this, near, this.target(), () => this.#connections.delete(connection));
    this.#connections.add(connection);
  }
}

class Connection {
  readonly #far = new Socket();
  readonly #pipes: Pipe[];
  #ended = false;

  constructor(
    proxy: TcpProxy,
    private readonly near: Socket,
    target: string,
    private readonly onEnd: () => void,
  ) {
    const at = target.lastIndexOf(":");
    this.#far.setNoDelay(true).connect(Number(target.slice(at + 1)), target.slice(0, at));
    this.#pipes = [
      new Pipe(proxy, near, this.#far, (bytes) => {
        proxy.forwardedBytes += bytes;
      }),
      new Pipe(proxy, this.#far, near, (bytes) => {
        proxy.returnedBytes += bytes;
      }),
    ];
    for (const socket of [near, this.#far]) {
      socket.on("error", () => this.end());
      // A link that is silent does not tell the other end either.
      socket.on("close", () => {
        if (!proxy.faults.silent) this.end();
      });
    }
  }

  changed(): void {
    for (const pipe of this.#pipes) pipe.changed();
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const pipe of this.#pipes) pipe.end();
    for (const socket of [this.near, this.#far]) {
      if (!socket.destroyed) socket.resetAndDestroy();
    }
    this.onEnd();
  }
}

/** One direction of a connection: a queue of pieces, each with the time when it may arrive. */
class Pipe {
  #queue: { readonly bytes: Buffer; readonly dueAt: number }[] = [];
  #queued = 0;
  /** When the link is free for the next piece. */
  #freeAt = 0;
  #timer: NodeJS.Timeout | undefined;
  #sourceEnded = false;

  constructor(
    private readonly proxy: TcpProxy,
    private readonly source: Socket,
    private readonly sink: Socket,
    private readonly onPassed: (bytes: number) => void,
  ) {
    source.on("data", (bytes) => this.#take(bytes));
    source.on("end", () => {
      this.#sourceEnded = true;
      this.#pass();
    });
    sink.on("drain", () => this.changed());
    source.resume();
  }

  changed(): void {
    if (!this.proxy.faults.silent && this.#queued < IN_FLIGHT_BYTES) this.source.resume();
    this.#pass();
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#queue = [];
  }

  #take(bytes: Buffer): void {
    const { delayMs, bytesPerSecond } = this.proxy.faults;
    const now = performance.now();
    this.#freeAt = Math.max(this.#freeAt, now) + (bytes.byteLength / bytesPerSecond) * 1000;
    this.#queue.push({ bytes, dueAt: this.#freeAt + delayMs });
    this.#queued += bytes.byteLength;
    if (this.#queued >= IN_FLIGHT_BYTES || this.proxy.faults.silent) this.source.pause();
    this.#pass();
  }

  /** Passes on what is due, and comes back for the rest. */
  #pass(): void {
    clearTimeout(this.#timer);
    while (!this.proxy.faults.silent && !this.sink.writableNeedDrain) {
      const next = this.#queue[0];
      if (next === undefined) {
        if (this.#sourceEnded) this.sink.end();
        return;
      }
      const wait = next.dueAt - performance.now();
      if (wait > 0) {
        this.#timer = setTimeout(() => this.#pass(), wait);
        return;
      }
      this.#queue.shift();
      this.#queued -= next.bytes.byteLength;
      this.sink.write(next.bytes);
      this.onPassed(next.bytes.byteLength);
      if (this.#queued < IN_FLIGHT_BYTES) this.source.resume();
    }
  }
}
