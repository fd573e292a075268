/** A change of the source: `find` occurs exactly once in `file`, which is given with its path below the repository. */
export interface Patch {
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

/** Writes the simulator with the code under test into one file. Throws when a patch does not fit exactly once. */
export function bundleSimulation(outfile: string, patches?: readonly Patch[]): Promise<void>;
