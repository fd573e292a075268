import type { MessageInitShape } from "@bufbuild/protobuf";
import type { TransferSchema } from "../../../gen/cairn/v1/admin_pb.js";
import { CairnError } from "../../base/errors.js";
import { nameOf } from "../../base/ids.js";
import type { IncomingTransfer } from "../../node/snapshots/receiver.js";
import type { OutgoingTransfer } from "../../node/snapshots/send_queue.js";
import type { ServedNode } from "../served_node.js";

type TransferInit = MessageInitShape<typeof TransferSchema>;

/** The part of a node that knows its transfers. */
type TransferringNode = Pick<ServedNode, "transfers" | "receiver">;

/** Returns the snapshots that a node sends or receives, as ListTransfers names them. */
export function transfersOf(node: TransferringNode): TransferInit[] {
  const { transfer } = node.receiver;
  return [...node.transfers.map(outgoing), ...(transfer === undefined ? [] : [incoming(transfer)])];
}

/**
 * Ends the transfer with this id.
 * @throws CairnError NOT_FOUND; FAILED_PRECONDITION when the snapshot is being installed here
 */
export async function cancelTransfer(node: TransferringNode, id: string): Promise<void> {
  const { transfer } = node.receiver;
  const sent = node.transfers.find((each) => idOfOutgoing(each) === id);
  if (sent !== undefined) sent.cancel();
  else if (transfer !== undefined && idOfIncoming(transfer) === id) await node.receiver.cancel(transfer);
  else
    throw new CairnError(
      "NOT_FOUND",
      `there is no transfer ${JSON.stringify(id)}: ListTransfers names those there are`,
    );
}

function outgoing(transfer: OutgoingTransfer): TransferInit {
  const { to, index, totalBytes, doneBytes, resumedBytes, bytesPerSecond } = transfer;
  return {
    id: idOfOutgoing(transfer),
    peerId: nameOf(to),
    sending: true,
    index: BigInt(index),
    totalBytes: BigInt(totalBytes),
    doneBytes: BigInt(doneBytes),
    resumedBytes: BigInt(resumedBytes),
    bytesPerSecond: BigInt(bytesPerSecond),
    remainingMs: BigInt(bytesPerSecond === 0 ? 0 : Math.round(((totalBytes - doneBytes) * 1_000) / bytesPerSecond)),
  };
}

function incoming(transfer: IncomingTransfer): TransferInit {
  const { from, index, totalBytes, doneBytes, resumedBytes } = transfer;
  return {
    id: idOfIncoming(transfer),
    peerId: nameOf(from),
    index: BigInt(index),
    totalBytes: BigInt(totalBytes),
    doneBytes: BigInt(doneBytes),
    resumedBytes: BigInt(resumedBytes),
  };
}

function idOfOutgoing({ to, index }: OutgoingTransfer): string {
  return `to-${to}-${index}`;
}

function idOfIncoming({ from, index }: IncomingTransfer): string {
  return `from-${from}-${index}`;
}
