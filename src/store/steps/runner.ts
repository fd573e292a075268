import type { FileSystem } from "../../system/fs.js";
import { executeStep, type StepOutcome, type StepTask } from "./step.js";

/** Carries out the steps of one store, one at a time. */
export interface StepRunner {
  /**
   * @throws CairnError DISK_FULL and BUSY: try again at any time. CORRUPT, STORAGE_FAILED: the
   * store cannot go on. Any other error: the attempt is lost, the next one may succeed.
   */
  run(task: StepTask): Promise<StepOutcome>;
  /** Share of the step under way that is done, from 0 to 1, about. */
  readonly progress: number;
  /** Tells whether writers wait for the step under way, which then leaves all pacing. */
  hurry(isUrgent: boolean): void;
  /** Ends the runner. A step that is still under way changes nothing any more on return. */
  close(): Promise<void>;
}

/** Makes the runner of a store in a directory. */
export type MakeRunner = (fs: FileSystem, directory: string) => StepRunner;

/** Carries steps out on the calling thread, between other events: for simulators and tests. */
export const inlineRunner: MakeRunner = (fs, directory) => {
  let last: Promise<unknown> = Promise.resolve();
  return {
    run(task) {
      const step = executeStep({ fs, directory }, task);
      last = step.catch(() => undefined);
      return step;
    },
    progress: 1,
    hurry() {},
    // As after a crash, another store may be opened in the directory then.
    close: () => last.then(() => undefined),
  };
};
