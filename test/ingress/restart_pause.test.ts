import { describe, expect, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import { RestartPause } from "../../src/ingress/restart_pause.js";

describe("the pause before an ingress process is started again", () => {
  test("doubles with each early end, up to its bound", () => {
    const pause = new RestartPause();
    const pauses = Array.from({ length: 9 }, () => pause.after(0));
    expect(pauses.slice(0, 4)).toEqual([1, 2, 4, 8].map((factor) => factor * limits.ingressRestartMs));
    expect(pauses.at(-1)).toBe(limits.ingressRestartMsMax);
  });

  test("starts over after a process that has run for long", () => {
    const pause = new RestartPause();
    for (let end = 0; end < 5; end++) pause.after(0);
    expect(pause.after(limits.ingressRestartMsMax)).toBe(limits.ingressRestartMs);
    expect(pause.after(0)).toBe(2 * limits.ingressRestartMs);
  });
});
