import fc from "fast-check";
import { expect, test } from "vitest";
import { RequestDecoder } from "../../../src/rpc/floods/request_decoder.js";
import { grpcMessage } from "./support.js";

test("messages come out whole, wherever their bytes are cut, and also after they were held", () => {
  const messages = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 });
  const cuts = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 });
  fc.assert(
    fc.property(messages, cuts, fc.array(fc.boolean(), { minLength: 1 }), (sent, sizes, holds) => {
      let asked = 0;
      let arrived = 0;
      const decoder = new RequestDecoder({
        begins: () => (holds[asked++ % holds.length] && asked < 100 ? "held" : "taken"),
        arrived: () => arrived++,
      });
      const all = Buffer.concat(sent.map((bytes) => grpcMessage(bytes)));
      const found: Buffer[] = [];
      for (let at = 0, turn = 0; at < all.byteLength; turn++) {
        const end = at + sizes[turn % sizes.length]!;
        found.push(...decoder.write(all.subarray(at, end)));
        at = end;
        if (turn % 2 === 0 && decoder.isHeld) found.push(...decoder.write(decoder.takeHeld()));
      }
      while (decoder.isHeld) found.push(...decoder.write(decoder.takeHeld()));
      expect(found).toEqual(sent.map((bytes) => grpcMessage(bytes)));
      expect(arrived).toBe(sent.length);
      expect(decoder.expected).toBeUndefined();
    }),
  );
});

test("nothing comes out after a refusal", () => {
  const decoder = new RequestDecoder({ begins: (bytes) => (bytes > 5 ? "refused" : "taken"), arrived: () => {} });
  const [small, large] = [grpcMessage(Buffer.alloc(5)), grpcMessage(Buffer.alloc(6))];
  expect(decoder.write(Buffer.concat([small, large, small]))).toEqual([small]);
  expect(decoder.write(small)).toEqual([]);
});
