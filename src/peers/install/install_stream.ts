import { RaftService } from "../../../gen/cairn/v1/raft_pb.js";
import type { ChannelSettings } from "../../rpc/channel.js";
import { openChannel } from "../../rpc/client.js";
import { offerRequest, type Self, toInstallReply } from "../protocol.js";
import type { InstallStream, Peer } from "../transport.js";
import { encodeChunk } from "./chunk_codec.js";
import type { InstallMessage, InstallReply } from "./install_messages.js";

/**
 * Sends a snapshot over a separate connection: a heartbeat must never wait behind the chunks,
 * neither here nor in the network. The connection ends with the stream.
 */
export class GrpcInstallStream implements InstallStream {
  readonly replies: AsyncIterable<InstallReply>;
  readonly #send: (message: InstallMessage) => Promise<void>;
  readonly #cancel: () => void;

  constructor({ id, address }: Peer, self: Self, settings: ChannelSettings, onEnd: (stream: InstallStream) => void) {
    const channel = openChannel(address, settings);
    const call = channel.client(RaftService).installSnapshot();
    // Chunks are encoded into the same few buffers: the garbage of a transfer would make the
    // collector stop the node.
    const spare: Buffer[] = [];
    this.#send = (message) => {
      if (message.kind === "chunk") {
        const memory = spare.pop() ?? NO_MEMORY;
        const bytes = encodeChunk(message, memory);
        return call.sendEncoded(bytes, () => spare.push(bytes.byteLength > memory.byteLength ? bytes : memory));
      }
      return call.send(offerRequest(message, id, self));
    };
    this.replies = repliesOf(call.responses);
    this.#cancel = () => {
      // Closing the channel also ends the call, but only cancel() reports that its caller ended it.
      call.cancel();
      channel.close();
      onEnd(this);
    };
  }

  send(message: InstallMessage): Promise<void> {
    return this.#send(message);
  }

  cancel(): void {
    this.#cancel();
  }
}

async function* repliesOf(
  responses: AsyncIterable<Parameters<typeof toInstallReply>[0]>,
): AsyncGenerator<InstallReply> {
  for await (const response of responses) yield toInstallReply(response);
}

const NO_MEMORY = Buffer.alloc(0);

/** Returns a transfer that has failed already. */
export function failedInstall(error: Error): InstallStream {
  return {
    send: () => Promise.reject(error),
    replies: {
      [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(error) }),
    },
    cancel() {},
  };
}
