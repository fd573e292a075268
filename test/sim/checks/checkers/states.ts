import type { SnapshotMeta } from "../../../../src/raft/types.js";
import type { SimNode } from "../../world/node.js";
import { payloadOf } from "../../world/observed_machine.js";
import { type Checker, demand, type Observed } from "./checker.js";
import type { Reference } from "./reference.js";

/** The state is what the committed log makes it, keys and sessions: compared at every start, at every install, and at the end. */
export class States implements Checker {
  readonly #restored = new Set<SimNode>();
  compared = 0;

  constructor(private readonly reference: Reference) {}

  started(node: Observed): Promise<void> {
    this.#restored.delete(node.place);
    return this.#compare(node, "at its start");
  }

  ended(place: SimNode): void {
    this.#restored.delete(place);
  }

  restored(place: SimNode, _meta: SnapshotMeta): void {
    if (place.cairn !== undefined) this.#restored.add(place);
  }

  touched(node: Observed): Promise<void> | undefined {
    const isRestored = this.#restored.delete(node.place);
    // One that stops may have closed its state by now.
    if (!isRestored || !node.place.isUp) return undefined;
    return this.#compare(node, "when a snapshot was installed");
  }

  async finished(nodes: readonly Observed[]): Promise<void> {
    for (const node of nodes) await this.#compare(node, "at the end");
  }

  async #compare({ id, cairn }: Observed, when: string): Promise<void> {
    const state = await payloadOf(cairn.machine);
    if (state.index === 0) return;
    const wanted = await this.reference.stateAt(state.index);
    this.compared += 1;
    demand(Buffer.compare(state.payload, wanted.payload) === 0, "the state is that of a replay of the log", {
      node: id,
      when,
      index: state.index,
      bytes: [state.payload.byteLength, wanted.payload.byteLength],
    });
  }
}
