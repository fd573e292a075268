import { CairnError } from "../base/errors.js";
import { nameOf } from "../base/ids.js";
import type { PeerRequest } from "../raft/messages.js";
import { peerChannelSettings } from "../rpc/grpc_options.js";
import { type MemberCredentials, settingsTo } from "../rpc/security/member_credentials.js";
import { failedInstall } from "./install/install_stream.js";
import { PeerConnection } from "./peer_connection.js";
import type { Self } from "./protocol.js";
import type { InstallStream, Peer, Transport, TransportEvents, TransportFactory } from "./transport.js";

// Implements Transport over gRPC.

export interface GrpcTransportOptions {
  /**
   * Returns the address of a peer; undefined when it is not known now. Default: the address that
   * the membership gives.
   */
  readonly addressOf?: ((peer: Peer) => string | undefined) | undefined;
  /** Credentials of the connections to peers. Without them they are not encrypted. */
  readonly members?: MemberCredentials | undefined;
  /** Called when the stream to a peer breaks, with the reason, and when the peer answers again. */
  readonly onChange?: ((peer: Peer, error: CairnError | undefined) => void) | undefined;
}

/** Makes a transport that reaches peers over gRPC: it calls the RaftService of each. */
export function grpcTransport(options: GrpcTransportOptions = {}): TransportFactory {
  return (self, events) => new GrpcTransport(self, events, options);
}

class GrpcTransport implements Transport {
  readonly #self: Self;
  readonly #events: TransportEvents;
  readonly #options: GrpcTransportOptions;
  readonly #connections = new Map<string, PeerConnection>();
  #closed = false;

  constructor(self: Self, events: TransportEvents, options: GrpcTransportOptions) {
    this.#self = self;
    this.#events = events;
    this.#options = options;
  }

  send(to: Peer, request: PeerRequest): void {
    this.#connectionTo(to)?.send(request);
  }

  openInstall(to: Peer): InstallStream {
    const connection = this.#connectionTo(to);
    if (connection !== undefined) return connection.openInstall();
    return failedInstall(new CairnError("UNREACHABLE", `the address of ${nameOf(to.id)} is not known`));
  }

  retain(peers: readonly Peer[]): void {
    for (const id of [...this.#connections.keys()]) {
      if (!peers.some((peer) => peer.id === id)) this.#drop(id);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const id of [...this.#connections.keys()]) this.#drop(id);
  }

  #connectionTo(peer: Peer): PeerConnection | undefined {
    if (this.#closed) return undefined;
    const { addressOf } = this.#options;
    const address = addressOf === undefined ? peer.address : addressOf(peer);
    const present = this.#connections.get(peer.id);
    if (present !== undefined && present.peer.address === address) return present;
    this.#drop(peer.id);
    if (address === undefined || address === "") return undefined;
    const connection = this.#connect({ id: peer.id, address });
    if (connection !== undefined) this.#connections.set(peer.id, connection);
    return connection;
  }

  #connect(peer: Peer): PeerConnection | undefined {
    try {
      const settings = settingsTo(nameOf(peer.id), peerChannelSettings, this.#options.members);
      return new PeerConnection(peer, this.#self, settings, {
        answer: (answer) => this.#events.answer(answer),
        rules: (newest) => this.#events.rules?.(peer.id, newest),
        broken: (error) => {
          this.#options.onChange?.(peer, error);
          this.#events.unreachable(peer.id);
        },
        mended: () => this.#options.onChange?.(peer, undefined),
      });
    } catch (error) {
      // The address is not valid.
      this.#options.onChange?.(peer, CairnError.from(error));
      return undefined;
    }
  }

  #drop(id: string): void {
    this.#connections.get(id)?.close();
    this.#connections.delete(id);
  }
}
