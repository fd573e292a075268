import { isAddress } from "../../../../src/base/addresses.js";
import { isId } from "../../../../src/base/ids.js";
import { GatewayError } from "../../../../src/gateway/errors.js";
import { encodeValue, parseJson, printJson, StoredJson } from "../../../../src/gateway/json.js";
import type { Random } from "../../../support/random.js";
import { randomJson } from "../../generate/json.js";
import { mutated } from "../../generate/mutations.js";
import { anyText } from "../../generate/values.js";
import { expectThat } from "../../run/target.js";
import { type Decoder, expectAnyRefusal } from "./decoder.js";

// The decoders of texts: JSON of the gateway, names, addresses.

const json: Decoder = {
  name: "JSON",
  draw(random) {
    const text = Buffer.from(randomJson(random), "utf8");
    return random.oneIn(2) ? mutated(random, text) : text;
  },
  run(bytes) {
    const text = Buffer.from(bytes).toString("utf8");
    let value: unknown;
    try {
      value = parseJson(text);
    } catch (error) {
      // The gateway skips such a line, whatever the error is; a stack that runs out shows no bug here.
      if (!(error instanceof RangeError)) expectAnyRefusal(error);
      return;
    }
    try {
      const stored = encodeValue(value);
      const printed = printJson(StoredJson.from(stored), "spaced");
      expectThat(stored.equals(encodeValue(parseJson(printed))), () => `a value changes when it is stored: ${text}`);
    } catch (error) {
      if (!(error instanceof GatewayError)) expectAnyRefusal(error);
    }
  },
};

const names: Decoder = {
  name: "name",
  draw: (random: Random) => (random.oneIn(2) ? anyText(random) : mutated(random, Buffer.from("[::1]:7101"))),
  run(bytes) {
    const text = Buffer.from(bytes).toString("utf8");
    isAddress(text);
    isId(text);
  },
};

export const textDecoders: readonly Decoder[] = [json, names];
