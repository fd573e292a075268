let waiting = 0;

/** A turn of the event loop: no time passes, and all promise jobs at hand are done first. */
export function nextTurn(): Promise<void> {
  waiting += 1;
  return new Promise((resolve) => {
    queueMicrotask(() =>
      process.nextTick(() => {
        waiting -= 1;
        resolve();
      }),
    );
  });
}

/** Whether somebody waits for a turn. */
export function isTurnDue(): boolean {
  return waiting > 0;
}
