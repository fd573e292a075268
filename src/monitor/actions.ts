// The actions of the page: what an operator may have a node do with a click.
import { CairnError } from "../base/errors.js";
import { cancelTransfer } from "../server/admin/admin_transfers.js";
import type { ServedNode } from "../server/served_node.js";
import type { HttpGate } from "./gate.js";
import { type HttpPage, queryOf, send } from "./http_server.js";

/** The part of a node that actions use. */
export type ActedNode = Pick<ServedNode, "takeSnapshot" | "transferLeadership" | "transfers" | "receiver">;

/** Does an action, and tells in words what was done. `about` names what it concerns. */
type Action = (node: ActedNode, about: string, signal: AbortSignal) => Promise<string>;

/** Time limit for handing leadership over, in ms. */
const HAND_OVER_MS = 10_000;

const actions: Readonly<Record<string, Action>> = {
  async snapshot(node) {
    const { taken, snapshot } = await node.takeSnapshot({});
    const at = snapshot === undefined ? "" : ` at ${snapshot.index}`;
    return taken ? `took a snapshot${at}` : `nothing was applied since the snapshot${at}`;
  },
  async lead(node, member, signal) {
    const leader = await node.transferLeadership(member, AbortSignal.any([signal, AbortSignal.timeout(HAND_OVER_MS)]));
    return `${leader} leads`;
  },
  async cancel(node, transfer) {
    await cancelTransfer(node, transfer);
    return "the transfer is ended; the receiver keeps the part that it has";
  },
};

/**
 * Returns the pages for actions, which take POST alone. A request must have the header
 * `x-cairn-action`: a page of a stranger cannot send that here without being allowed to first.
 */
export function actionPages(node: () => ActedNode | undefined, gate: HttpGate): ReadonlyMap<string, HttpPage> {
  return new Map(
    Object.entries(actions).map(([name, act]): [string, HttpPage] => [
      `/actions/${name}`,
      async (request, response) => {
        if (request.headers["x-cairn-action"] === undefined) {
          throw new CairnError("INVALID_ARGUMENT", "an action needs the header x-cairn-action");
        }
        const acted = node();
        if (acted === undefined) throw new CairnError("STOPPED", "the node is starting");
        const gone = new AbortController();
        response.on("close", () => gone.abort());
        const done = await gate.audited(request, () => act(acted, queryOf(request).get("about") ?? "", gone.signal));
        send(response, 200, "text/plain; charset=utf-8", `${done}\n`);
      },
    ]),
  );
}
