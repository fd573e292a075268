import type { ShownTransfer } from "../monitor/feed/shown.js";
import { actionButton } from "./actions.js";
import { byId, element } from "./dom.js";
import { bytes, count, duration } from "./text.js";

/** Shows the snapshots on their way to and from this node. */
export class TransferList {
  readonly #list = byId("transfers");
  readonly #none = element("li", { class: "soft" }, "none");
  /** By id: an item stays while its transfer does, so that its button can be reached. */
  #items = new Map<string, Item>();

  show(transfers: readonly ShownTransfer[]): void {
    const items = new Map(transfers.map((each) => [each.id, this.#items.get(each.id) ?? new Item(each)]));
    for (const transfer of transfers) items.get(transfer.id)?.show(transfer);
    if ([...items.keys()].join() !== [...this.#items.keys()].join() || this.#list.childElementCount === 0) {
      this.#list.replaceChildren(
        ...(items.size > 0 ? [...items.values()].map(({ element: item }) => item) : [this.#none]),
      );
    }
    this.#items = items;
  }
}

class Item {
  readonly element: HTMLElement;
  readonly #text = element("span");
  readonly #bar = element("progress", { max: 1, value: 0 });

  constructor(transfer: ShownTransfer) {
    const what = `the transfer ${wayOf(transfer)}`;
    const button = actionButton({
      label: "Cancel",
      spoken: `Cancel ${what}`,
      question: () => `End ${what}? ${this.#text.textContent}. The receiver keeps the part that it has.`,
      action: "cancel",
      about: transfer.id,
    });
    this.element = element("li", { class: "transfer" }, this.#text, this.#bar, button);
  }

  show(transfer: ShownTransfer): void {
    const { index, totalBytes, doneBytes, bytesPerSecond } = transfer;
    const left = `${duration(((totalBytes - doneBytes) / bytesPerSecond) * 1_000)} left`;
    const pace = bytesPerSecond > 0 ? `, ${bytes(bytesPerSecond)}/s, ${left}` : "";
    const text = `snapshot ${count(index)} ${wayOf(transfer)}: ${bytes(doneBytes)} of ${bytes(totalBytes)}${pace}`;
    this.#text.textContent = text;
    this.#bar.max = Math.max(1, totalBytes);
    this.#bar.value = doneBytes;
    this.#bar.setAttribute("aria-label", text);
  }
}

function wayOf({ direction, peer }: ShownTransfer): string {
  return direction === "out" ? `to ${peer}` : `from ${peer}`;
}
