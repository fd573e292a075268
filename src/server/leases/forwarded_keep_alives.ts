import type { MessageInitShape } from "@bufbuild/protobuf";
import type { KeepAliveRequestSchema, KeepAliveResponse, LeaseService } from "../../../gen/cairn/v1/lease_pb.js";
import { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import type { CallSettings } from "../../rpc/channel.js";
import type { Client } from "../../rpc/client.js";
import { streamFailure } from "../../rpc/status.js";
import type { Clock } from "../../system/clock.js";

type KeepAliveInit = MessageInitShape<typeof KeepAliveRequestSchema>;
type LeaderClient = Client<typeof LeaseService>;

/** A request that was sent to the leader. */
interface SentRequest {
  readonly resolve: (response: KeepAliveResponse) => void;
  readonly reject: (error: CairnError) => void;
}

/** One stream to one leader, for the keep-alives of all clients of a follower. */
class KeepAliveStream {
  readonly #stream: ReturnType<LeaderClient["keepAlive"]>;
  /** In the order in which they are answered. */
  readonly #sent: SentRequest[] = [];
  #end: CairnError | undefined;

  constructor(
    readonly leader: LeaderClient,
    metadata: CallSettings["metadata"],
    private readonly clock: Clock,
  ) {
    this.#stream = leader.keepAlive({ metadata });
    void this.#receive();
  }

  get isOpen(): boolean {
    return this.#end === undefined;
  }

  keep(request: KeepAliveInit): Promise<KeepAliveResponse> {
    return new Promise((resolve, reject) => {
      const callOff = this.clock.after(limits.keepAliveForwardMs, () => this.#giveUp(), true);
      this.#sent.push({
        resolve: (response) => {
          callOff();
          resolve(response);
        },
        reject: (error) => {
          callOff();
          reject(error);
        },
      });
      // A broken stream is reported by its receiving half.
      this.#stream.send(request).catch(() => {});
    });
  }

  /** Ends the stream once the requests that were sent are answered. */
  retire(): void {
    this.#stream.end();
  }

  async #receive(): Promise<void> {
    try {
      for await (const response of this.#stream.responses) this.#sent.shift()?.resolve(response);
      this.#ended(new CairnError("UNREACHABLE", "the leader has ended the stream"));
    } catch (error) {
      this.#ended(streamFailure(error));
    }
  }

  #giveUp(): void {
    const text = `the leader has not answered a keep-alive within ${limits.keepAliveForwardMs} ms (keepAliveForwardMs)`;
    this.#ended(new CairnError("UNREACHABLE", text));
    this.#stream.cancel();
  }

  #ended(error: CairnError): void {
    this.#end ??= error;
    for (const { reject } of this.#sent.splice(0)) reject(error);
  }
}

/** Passes the keep-alives of a follower's clients on to the leader, all over one stream. */
export class ForwardedKeepAlives {
  #stream: KeepAliveStream | undefined;

  constructor(private readonly clock: Clock) {}

  /**
   * Passes a request on.
   * @throws CairnError the leader's, or UNREACHABLE
   */
  keep(leader: LeaderClient, metadata: CallSettings["metadata"], request: KeepAliveInit): Promise<KeepAliveResponse> {
    if (this.#stream?.leader !== leader || !this.#stream.isOpen) {
      this.#stream?.retire();
      this.#stream = new KeepAliveStream(leader, metadata, this.clock);
    }
    return this.#stream.keep(request);
  }
}
