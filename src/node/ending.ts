import { checkSignal } from "../base/arguments.js";
import { InvariantViolation } from "../base/assert.js";
import type { CancelSignal } from "../base/cancel_signal.js";
import { CairnError, hasCode } from "../base/errors.js";
import type { StateMachine } from "../machine/state_machine.js";
import type { Logger } from "../system/logger.js";
import { abandonStorage, closeStorage, type NodeStorage } from "./open/storage.js";

/**
 * Ends a node: on request, or because of an error that it cannot survive. Every such error takes
 * this road, so these methods list all of them:
 *
 * - {@link guard}: a change of the core throws, because the core is broken.
 * - {@link watchLoop}: the Ready loop cannot write, apply or install.
 * - {@link attempt}: a tick or a turn throws, or the handling of an event.
 * - {@link watch}: work on snapshots breaks an invariant, or leaves the disk in an unknown state.
 * - {@link watchStorage}: the directory's lock is lost, or the state is found damaged (T7).
 * - {@link fail}: a part finds that the node must not continue: it cannot read the log for its
 *   followers, or cannot note that it has lost data (T3).
 */
export class Ending {
  #hasBegun = false;
  #over: Promise<void> | undefined;
  #stopParts: (() => Promise<unknown>) | undefined;

  constructor(
    private readonly storage: NodeStorage<StateMachine>,
    private readonly node: {
      readonly id: string;
      readonly logger: Logger;
      /** Called once when an error has ended the node. */
      readonly onFatal: (error: unknown) => void;
    },
  ) {}

  /**
   * Sets the function that stops the node's parts. It resolves with the error that has ended the
   * Ready loop; undefined when there was none.
   */
  connect(stopParts: () => Promise<unknown>): void {
    this.#stopParts = stopParts;
  }

  /** Whether the node is stopping, or has stopped. */
  get hasBegun(): boolean {
    return this.#hasBegun;
  }

  /** The error for callers of a node that is stopping or has stopped. */
  get stopped(): CairnError {
    return new CairnError("STOPPED", `node ${this.node.id} has stopped`);
  }

  /** @throws CairnError STOPPED; INVALID_ARGUMENT for a signal that is none */
  assertRunning(signal?: CancelSignal): void {
    checkSignal(signal);
    if (this.#hasBegun) throw this.stopped;
  }

  /** Stops cleanly; see {@link CairnNode.stop}. */
  stop(): Promise<void> {
    this.#over ??= this.#end(closeStorage);
    return this.#over;
  }

  /** Stops as if the process had been killed; see {@link CairnNode.crash}. */
  crash(): Promise<void> {
    this.#over ??= this.#end(abandonStorage).catch(() => {});
    return this.#over;
  }

  /** Ends a node that cannot continue: nothing may build on its state. */
  fail(error: unknown): void {
    if (this.#hasBegun) return;
    const { logger, onFatal } = this.node;
    logger.error({ err: error }, "the node has failed and stops");
    this.#over = this.#end(abandonStorage).catch(() => {});
    void this.#over.then(() => onFatal(error));
  }

  /** Runs a change of the core. The core throws only when it is broken, and that ends the node. */
  guard<Core, Result>(core: Core, change: (core: Core) => Result): Result {
    try {
      return change(core);
    } catch (error) {
      this.fail(error);
      throw error;
    }
  }

  /**
   * Runs work that a timer or an event begins. An error ends the node: no caller would hear of it.
   */
  attempt(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.fail(error);
    }
  }

  /**
   * Waits for work that may fail for many reasons. An error that breaks an invariant, or that
   * leaves the contents of the disk unknown, ends the node.
   */
  async watch<Result>(work: Promise<Result>): Promise<Result> {
    try {
      return await work;
    } catch (error) {
      if (hasCode(error, "STORAGE_FAILED") || error instanceof InvariantViolation) this.fail(error);
      throw error;
    }
  }

  /** Resolves with the error that ended the Ready loop; undefined when the loop was stopped. */
  watchLoop(loop: Promise<void>): Promise<unknown> {
    return loop.then(
      () => undefined,
      (error: unknown) => {
        this.fail(error);
        return error;
      },
    );
  }

  /**
   * Watches for the loss of the directory's lock, and for damage of the state: damaged state must
   * not be served, nor become a snapshot (T7).
   */
  watchStorage(): void {
    const { directory, machine } = this.storage;
    const { damaged } = machine;
    directory.onLost((error) => this.fail(error));
    if (damaged?.aborted) this.fail(damaged.reason);
    damaged?.addEventListener("abort", () => this.fail(damaged.reason));
  }

  async #end(release: (storage: NodeStorage<StateMachine>) => Promise<void>): Promise<void> {
    this.#hasBegun = true;
    const failure = await this.#stopParts?.();
    if (failure === undefined || isInterruption(failure)) return release(this.storage);
    await abandonStorage(this.storage);
    throw failure;
  }
}

/**
 * Returns whether the loop ended with this error because it was stopped during work that may take
 * long.
 */
function isInterruption(error: unknown): boolean {
  return error instanceof CairnError && (error.code === "STOPPED" || error.code === "CANCELLED");
}

/** Throws the error outside any promise, which ends the process. */
export function rethrow(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
