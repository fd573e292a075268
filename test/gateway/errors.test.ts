import { describe, expect, test } from "vitest";
import { CairnError, type CairnErrorCode, errorCodes } from "../../src/base/errors.js";
import { GatewayError } from "../../src/gateway/errors.js";

describe("errors of the protocol", () => {
  const codeOf = (code: CairnErrorCode) => GatewayError.from(new CairnError(code, "why")).code;

  test("what may or may not have happened is never reported as if nothing had", () => {
    const uncertain: CairnErrorCode[] = ["OUTCOME_UNKNOWN", "TIMEOUT", "CANCELLED", "STORAGE_FAILED", "INTERNAL"];
    for (const code of uncertain) expect([0, 13], code).toContain(codeOf(code));
  });

  test("what may be tried again is temporarily unavailable", () => {
    const codes = Object.keys(errorCodes) as CairnErrorCode[];
    for (const code of codes) if (errorCodes[code].retryable) expect(codeOf(code), code).toBe(11);
  });

  test("the text is the node's, without its code", () => {
    expect(GatewayError.from(new CairnError("NOT_FOUND", "there is none")).text).toBe("there is none");
  });

  test("a gateway error stays itself, and a bug is a crash", () => {
    const error = new GatewayError(22, "text");
    expect(GatewayError.from(error)).toBe(error);
    expect(GatewayError.from(new TypeError("x is not y"))).toMatchObject({ code: 13, text: "x is not y" });
    expect(GatewayError.from("thrown")).toMatchObject({ code: 13, text: "thrown" });
  });
});
