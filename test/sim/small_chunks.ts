import { limits } from "../../src/core/limits.js";

/**
 * Snapshots in the simulator are small. So are the chunks that their files are made of: a transfer can go on only behind a whole one. Call it
 * before any snapshot is taken.
 */
export function useSmallChunks(): void {
  (limits as { snapshotChunkBytes: number }).snapshotChunkBytes = 150;
}
