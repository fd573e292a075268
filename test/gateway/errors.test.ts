import { describe, expect, test } from "vitest";
import { CairnError, type CairnErrorCode, errorCodes } from "../../src/base/errors.js";
import { GatewayError } from "../../src/gateway/errors.js";

describe("an error of the protocol", () => {
  const codeOf = (code: CairnErrorCode) => GatewayError.from(new CairnError(code, "why")).code;

  test("never says that nothing happened when the outcome is unknown", () => {
    const uncertain: CairnErrorCode[] = ["OUTCOME_UNKNOWN", "TIMEOUT", "CANCELLED", "STORAGE_FAILED", "INTERNAL"];
    for (const code of uncertain) expect([0, 13], code).toContain(codeOf(code));
  });

  test("is temporarily unavailable when the request may be retried", () => {
    const codes = Object.keys(errorCodes) as CairnErrorCode[];
    for (const code of codes) if (errorCodes[code].retryable) expect(codeOf(code), code).toBe(11);
  });

  test("has the node's text without its code", () => {
    expect(GatewayError.from(new CairnError("NOT_FOUND", "there is none")).text).toBe("there is none");
  });

  test("is kept as it is when the gateway throws it, and a crash when a bug does", () => {
    const error = new GatewayError(22, "text");
    expect(GatewayError.from(error)).toBe(error);
    expect(GatewayError.from(new TypeError("x is not y"))).toMatchObject({ code: 13, text: "x is not y" });
    expect(GatewayError.from("thrown")).toMatchObject({ code: 13, text: "thrown" });
  });
});
