import type { CairnError } from "../base/errors.js";
import { nameOf } from "../base/ids.js";
import type { Peer } from "../peers/transport.js";
import type { Logger } from "../system/logger.js";
import type { Contact } from "./arrival.js";

/**
 * Milliseconds for which the same reason is not logged again: a full disk, for one, breaks streams
 * over and over.
 */
const SILENCE_MS = 60_000;

/** Returns a function that logs when a peer is lost, and when it answers again. */
export function peerLog(
  logger: Logger,
  now: () => number = () => performance.now(),
): (peer: Peer, error: CairnError | undefined) => void {
  const lost = new Map<string, { readonly reason: string; readonly saidMs: number; isOver: boolean }>();
  return ({ id, address }, error) => {
    const last = lost.get(id);
    if (error === undefined) {
      if (last === undefined || last.isOver) return;
      last.isOver = true;
      logger.info({ peer: nameOf(id), address }, "a peer answers again");
      return;
    }
    if (last?.reason === error.text && now() - last.saidMs < SILENCE_MS) return;
    lost.set(id, { reason: error.text, saidMs: now(), isOver: false });
    logger.warn({ peer: nameOf(id), address, reason: error.text }, "lost the connection to a peer");
  };
}

/** Returns a function that logs that a node refused this one, or is not the one that was meant. */
export function refusalLog(
  logger: Logger,
  now: () => number = () => performance.now(),
): (contact: Contact, error: CairnError) => void {
  const said = new Map<string, { readonly reason: string; readonly ms: number }>();
  return ({ name, address }, { text: reason }) => {
    const last = said.get(address);
    if (last?.reason === reason && now() - last.ms < SILENCE_MS) return;
    said.set(address, { reason, ms: now() });
    logger.warn(
      { peer: name, address, reason },
      "a node at this address cannot be asked, because of its credentials, its version, or this node's",
    );
  };
}
