/** The ways in which a node keeps the state of the key-value store on its disk. */
export const stateKinds = ["lmdb", "store"] as const;

export type StateKind = (typeof stateKinds)[number];
