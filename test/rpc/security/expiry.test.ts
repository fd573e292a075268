import { expect, test } from "vitest";
import { ExpiryWatch, expiryWarning } from "../../../src/rpc/security/expiry.js";

const DAY_MS = 24 * 3_600_000;
const info = { use: "server", file: "n1.pem", subject: "CN=n1", startsMs: 0, expiresMs: 100 * DAY_MS } as const;
const at = (days: number) => info.expiresMs - days * DAY_MS;

test("a certificate is warned of from 30 days before its end on, and logged at 30, 7 and 1 days and at its end", () => {
  const watch = new ExpiryWatch();
  const logged: number[] = [];
  for (let hours = 40 * 24; hours >= -48; hours--) {
    if (watch.look([info], at(hours / 24)).length > 0) logged.push(hours);
  }
  expect(logged).toEqual([30 * 24 - 1, 7 * 24 - 1, 23, -1]);
  expect(expiryWarning(info, at(30))).toBeUndefined();
  expect(expiryWarning(info, at(29.5))).toMatch(/^the certificate of CN=n1 in n1\.pem ends at .*, in 29 days: replace/);
  expect(expiryWarning(info, at(1.5))).toContain("in 1 day:");
  expect(expiryWarning(info, at(0.5))).toContain("within a day");
  expect(expiryWarning(info, at(-0.5))).toContain("has ended at");
});

test("a certificate with a short life is warned of in its last third alone", () => {
  const short = { ...info, startsMs: info.expiresMs - DAY_MS };
  expect(expiryWarning(short, at(0.4))).toBeUndefined();
  expect(expiryWarning(short, at(0.3))).toContain("within a day");
});

test("a certificate that replaces one is warned of anew", () => {
  const watch = new ExpiryWatch();
  expect(watch.look([info], at(5))).toHaveLength(1);
  expect(watch.look([{ ...info, expiresMs: info.expiresMs + DAY_MS }], at(5))).toHaveLength(1);
  expect(watch.look([], at(5))).toHaveLength(0);
  expect(watch.look([info], at(5))).toHaveLength(1);
});
