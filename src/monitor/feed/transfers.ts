import { transfersOf } from "../../server/admin/admin_transfers.js";
import type { MonitoredNode } from "../monitored.js";
import type { ShownTransfer } from "./shown.js";

/** A transfer when it was first seen. */
interface FirstSight {
  readonly doneBytes: number;
  readonly ms: number;
}

/**
 * Shows the transfers of a node. A receiver does not know its rate, so it is measured here from the
 * first look on.
 */
export class TransfersView {
  #seen = new Map<string, FirstSight>();

  /** Returns the transfers under way. `ms`: time of the look, by a clock that nobody sets. */
  of(node: Pick<MonitoredNode, "transfers" | "receiver">, ms: number): ShownTransfer[] {
    const seen = new Map<string, FirstSight>();
    const shown = transfersOf(node).map((transfer): ShownTransfer => {
      const { id = "", peerId: peer = "", sending, index, bytesPerSecond } = transfer;
      const [totalBytes, doneBytes] = [Number(transfer.totalBytes), Number(transfer.doneBytes)];
      const first = this.#seen.get(id) ?? { doneBytes, ms };
      seen.set(id, first);
      const measured = ms > first.ms ? Math.round(((doneBytes - first.doneBytes) * 1_000) / (ms - first.ms)) : 0;
      const direction = sending === true ? "out" : "in";
      const rate = sending === true ? Number(bytesPerSecond ?? 0) : Math.max(0, measured);
      return { id, peer, direction, index: Number(index), totalBytes, doneBytes, bytesPerSecond: rate };
    });
    this.#seen = seen;
    return shown;
  }
}
