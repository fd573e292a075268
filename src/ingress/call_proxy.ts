import * as grpc from "@grpc/grpc-js";
import { ServerCallContext } from "../rpc/call_context.js";
import { channelOptions } from "../rpc/grpc_options.js";
import { OutgoingMessages } from "../rpc/outgoing_messages.js";
import { incomingRequests, outgoingAnswers } from "../rpc/server.js";
import { clientText } from "../server/access/ingress_client.js";
import { metadataKeys } from "../server/access/metadata_keys.js";

const asItIs = (bytes: Buffer): Buffer => bytes;

/**
 * Passes calls through to the node without a look into their messages: metadata, deadline,
 * cancellation, messages, status and trailers, in both directions and with back-pressure. On the
 * wire a unary call is a stream with one message, so every method is passed through as a stream.
 */
export class CallProxy {
  readonly #channel: grpc.Channel;

  /** `node`: address at which the node serves; `tellsClients`: it asks who makes each call. */
  constructor(
    node: string,
    private readonly tellsClients = false,
  ) {
    this.#channel = new grpc.Channel(node, grpc.credentials.createInsecure(), {
      ...channelOptions,
      "grpc.initial_reconnect_backoff_ms": 50,
      "grpc.max_reconnect_backoff_ms": 300,
    });
  }

  /** Makes a server pass calls of this path through, unless it serves the path already. */
  addTo(server: Pick<grpc.Server, "register">, path: string): void {
    const pass = (call: grpc.ServerDuplexStream<Buffer, Buffer>) => this.#pass(call, path);
    server.register(path, pass, asItIs, asItIs, "bidi");
  }

  close(): void {
    this.#channel.close();
  }

  #pass(call: grpc.ServerDuplexStream<Buffer, Buffer>, path: string): void {
    const context = new ServerCallContext(call);
    const toNode = this.#channel.createCall(path, call.getDeadline(), undefined, null, undefined);
    const requests = new OutgoingMessages((bytes, written) =>
      toNode.sendMessageWithContext({ callback: written }, bytes),
    );
    const answers = outgoingAnswers(call);
    const incoming = incomingRequests(call, context, { decode: asItIs });
    context.onCancelled((error) => {
      requests.fail(error);
      answers.fail(error);
      toNode.cancelWithStatus(grpc.status.CANCELLED, error.message);
    });
    const metadata = call.metadata.clone();
    // The connection to the node has its own.
    metadata.remove("user-agent");
    // Only this process may speak of itself and its clients.
    metadata.remove(metadataKeys.ingress);
    metadata.remove(metadataKeys.client);
    if (this.tellsClients) metadata.set(metadataKeys.client, clientText(context));
    toNode.start(metadata, {
      onReceiveMetadata: (header) => call.sendMetadata(header),
      onReceiveMessage: (bytes: Buffer) => {
        answers.send(bytes).then(
          () => toNode.startRead(),
          () => {},
        );
      },
      onReceiveStatus: (status) => {
        requests.fail(new Error("the node has ended the call"));
        incoming.ended();
        answers.end(() => {
          context.answered();
          if (status.code === grpc.status.OK) call.end(status.metadata);
          // grpc-js takes this event for the call's status.
          else call.emit("error", status);
        });
      },
    });
    toNode.startRead();
    void passRequests(incoming.requests, requests, () => toNode.halfClose());
  }
}

/** Passes the requests of a call on. Ends quietly when the call does: its status says how. */
async function passRequests(from: AsyncIterable<Buffer>, to: OutgoingMessages, end: () => void): Promise<void> {
  try {
    for await (const bytes of from) await to.send(bytes);
    to.end(end);
  } catch {
    // The call has ended.
  }
}
