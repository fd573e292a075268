import { hasCode } from "../../../../src/base/errors.js";
import { nameOf } from "../../../../src/base/ids.js";
import type { OutgoingTransfer } from "../../../../src/node/snapshots/send_queue.js";
import type { Keep } from "../../../support/disk/faulty_fs.js";
import type { SimCluster } from "../../world/cluster.js";
import type { SimNode } from "../../world/node.js";
import type { SimRandom } from "../../world/random.js";
import type { DiskTroubles } from "./disks.js";
import type { Operator } from "./operator.js";
import type { ProcessTroubles } from "./processes.js";

/** A snapshot that is on its way. */
interface Underway {
  readonly from: SimNode;
  readonly to: SimNode;
  readonly transfer: OutgoingTransfer;
}

/** What befalls a snapshot that is on its way, while it is. */
export class TransferTroubles {
  constructor(
    private readonly cluster: SimCluster,
    private readonly random: SimRandom,
    private readonly processes: ProcessTroubles,
    private readonly disks: DiskTroubles,
    private readonly operator: Operator,
  ) {}

  /** Whatever it is: nothing when no snapshot is on its way. */
  strike(): void {
    const underway = this.#underway();
    if (underway.length === 0) return;
    const one = this.random.pick(underway);
    const [what, act] = this.random.pick(Object.entries(this.#acts));
    const { index, doneBytes, totalBytes } = one.transfer;
    this.cluster.count(`transfer: ${what}`);
    this.cluster.note(
      `${what}, while ${one.from.id} sends ${one.to.id} a snapshot at ${index}: ${doneBytes} of ${totalBytes} bytes are there`,
    );
    act(one);
  }

  readonly #acts: Readonly<Record<string, (one: Underway) => void>> = {
    "receiver restarted": ({ to }) => this.processes.restart(to, this.#keep()),
    "sender restarted": ({ from }) => this.processes.restart(from, this.#keep()),
    "both ends restarted": ({ from, to }) => {
      this.processes.restart(from, this.#keep());
      this.processes.restart(to, this.#keep());
    },
    "leader changed": ({ from, to }) => this.operator.transferFrom(from, to),
    "another node campaigns": ({ from, to }) => {
      const others = this.cluster.nodes.filter((node) => node.isUp && node !== from && node !== to);
      if (others.length > 0) this.operator.campaignOf(this.random.pick(others));
    },
    "cancelled at its sender": ({ transfer }) => transfer.cancel(),
    "cancelled at its receiver": ({ to }) => {
      const incoming = to.isUp ? to.cairn!.receiver.transfer : undefined;
      // Refused when it is being installed already.
      if (incoming !== undefined) this.cluster.watch(to.cairn!.receiver.cancel(incoming).catch(unlessRefused));
    },
    superseded: ({ from }) => this.operator.takeSnapshotOf(from),
    "disk of the receiver full": ({ to }) => this.disks.fullDiskOf(to),
  };

  #underway(): Underway[] {
    return this.cluster.nodes.flatMap((from) => {
      if (!from.isUp) return [];
      return from.cairn!.transfers.flatMap((transfer) => {
        const to = this.cluster.node(nameOf(transfer.to));
        return to === undefined ? [] : [{ from, to, transfer }];
      });
    });
  }

  #keep(): Keep {
    return this.random.pick<Keep>(["all", "all", "none", "random"]);
  }
}

function unlessRefused(error: unknown): void {
  if (!hasCode(error, "FAILED_PRECONDITION") && !hasCode(error, "NOT_FOUND")) throw error;
}
