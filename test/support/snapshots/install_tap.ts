import type { InstallMessage } from "../../../src/peers/install/install_messages.js";
import type { InstallStream, TransportFactory } from "../../../src/peers/transport.js";

/** Listens in on the snapshots that nodes send, and breaks their streams. */
export class InstallTap {
  /** Bytes of snapshot files that were handed to the transport. */
  sentBytes = 0;
  /** Streams break as soon as so many were, and new ones at once. */
  breakAt = Number.POSITIVE_INFINITY;
  broken = 0;

  on(transport: TransportFactory): TransportFactory {
    return (self, events) => {
      const inner = transport(self, events);
      return {
        send: (to, request) => inner.send(to, request),
        openInstall: (to) => this.#tap(inner.openInstall(to)),
        retain: (peers) => inner.retain(peers),
        close: () => inner.close(),
      };
    };
  }

  #tap(stream: InstallStream): InstallStream {
    return {
      replies: stream.replies,
      cancel: () => stream.cancel(),
      send: (message: InstallMessage) => {
        if (message.kind === "chunk") this.sentBytes += message.data.byteLength;
        if (this.sentBytes >= this.breakAt) {
          this.broken += 1;
          stream.cancel();
        }
        return stream.send(message);
      },
    };
  }
}
