import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readLines } from "../../src/gateway/lines.js";

const LIMIT = 8;
const TOO_LONG = "it is longer than gatewayLineBytes (8)";

async function linesOf(parts: Iterable<string | Uint8Array>, limit = LIMIT) {
  const lines = [];
  for await (const line of readLines(bytesOf(parts), limit)) lines.push(line);
  return lines;
}

async function* bytesOf(parts: Iterable<string | Uint8Array>) {
  for (const part of parts) yield Buffer.from(part as string);
}

describe("the lines of the input", () => {
  test("end in LF or CRLF; the last one needs no end", async () => {
    expect(await linesOf(["a\nb\r\nc"])).toEqual([
      { number: 1, text: "a" },
      { number: 2, text: "b" },
      { number: 3, text: "c" },
    ]);
  });

  test("may contain a CR", async () => {
    expect(await linesOf(["a\rb\r\r\n"])).toEqual([{ number: 1, text: "a\rb\r" }]);
  });

  test("are counted but not returned when they are blank", async () => {
    expect(await linesOf(["\n \t\r\n\r\na\n\n"])).toEqual([{ number: 4, text: "a" }]);
  });

  test("are none when there is no input", async () => {
    expect(await linesOf([])).toEqual([]);
    expect(await linesOf([""])).toEqual([]);
  });

  test("may be cut in the middle of a character", async () => {
    const bytes = Buffer.from("é€😀\n");
    expect(
      await linesOf(
        Array.from(bytes, (byte) => Uint8Array.of(byte)),
        16,
      ),
    ).toEqual([{ number: 1, text: "é€😀" }]);
  });

  test("are returned up to the limit, with any end, and not with one byte more", async () => {
    for (const end of ["", "\n", "\r\n"]) {
      expect(await linesOf([`12345678${end}`])).toEqual([{ number: 1, text: "12345678" }]);
      expect(await linesOf([`123456789${end}`])).toEqual([{ number: 1, fault: TOO_LONG }]);
    }
  });

  test("are dropped when they are too long, and the next one is read", async () => {
    expect(await linesOf(["12345", "67890".repeat(1000), "\nok\n", "x".repeat(20)])).toEqual([
      { number: 1, fault: TOO_LONG },
      { number: 2, text: "ok" },
      { number: 3, fault: TOO_LONG },
    ]);
  });

  test("are not returned when they are not UTF-8", async () => {
    expect(await linesOf([Uint8Array.of(0x61, 0xff, 0x0a), "ok\n"])).toEqual([
      { number: 1, fault: "it is not UTF-8" },
      { number: 2, text: "ok" },
    ]);
  });

  test("are the same however the input is cut into pieces", async () => {
    const line = fc.string({ unit: fc.constantFrom("a", "é", " ", "\r", "\n"), maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(fc.array(line), fc.array(fc.nat(6)), async (texts, cuts) => {
        const whole = Buffer.from(texts.join("\n"));
        expect(await linesOf(pieces(whole, cuts))).toEqual(await linesOf([whole]));
      }),
    );
  });
});

function* pieces(whole: Buffer, sizes: readonly number[]): Generator<Buffer> {
  let from = 0;
  for (const size of sizes) {
    yield whole.subarray(from, from + size);
    from += size;
  }
  yield whole.subarray(from);
}
