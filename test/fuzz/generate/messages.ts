import { type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import type { Random } from "../../support/random.js";
import { anyBytes, anyNumber, anyText } from "./values.js";
import { WireWriter, wireTypes } from "./wire.js";

// Draws encoded messages by descriptor: from valid ones up to fields that no encoder writes.

/** Draws a plausible value for a field, so that a message gets past the first checks; undefined: knows none. */
export type Hints = (field: DescField, random: Random) => bigint | number | string | Uint8Array | undefined;

export interface MessageStyle {
  /** Chance of each field, and of each value, to be wild: of the wrong type, twice, unknown, cut off. From 0 to 1. */
  readonly wildness: number;
  readonly hints?: Hints | undefined;
}

const DEEPEST = 6;

/** Draws the bytes of a message. */
export function randomMessage(random: Random, schema: DescMessage, style: MessageStyle, depth = 0): Buffer {
  const writer = new WireWriter();
  const isWild = () => random.fraction() < style.wildness;
  const chosen = new Map(
    schema.oneofs.map((oneof) => [oneof, random.oneIn(12) ? undefined : random.pick(oneof.fields)]),
  );
  const fields = isWild() ? shuffled(random, schema.fields) : schema.fields;
  for (const field of fields) {
    const isChosen = field.oneof === undefined ? !random.oneIn(4) : chosen.get(field.oneof) === field;
    if (!isChosen && !isWild()) continue;
    const times = field.fieldKind === "list" ? listLength(random) : isWild() ? 2 : 1;
    for (let time = 0; time < times; time++) {
      if (isWild()) writer.raw(wildField(random, field.number));
      else writer.raw(fieldBytes(random, field, style, depth));
    }
  }
  if (isWild()) writer.raw(wildField(random, random.pick([0, 15, 16, 100, 536_870_911])));
  return writer.done();
}

function listLength(random: Random): number {
  if (random.oneIn(100)) return random.whole(100, 1_500);
  return random.whole(0, 3);
}

/** The same items in another order. */
export function shuffled<Item>(random: Random, items: readonly Item[]): Item[] {
  const all = [...items];
  for (let at = all.length - 1; at > 0; at--) {
    const other = random.whole(0, at);
    [all[at], all[other]] = [all[other]!, all[at]!];
  }
  return all;
}

function fieldBytes(random: Random, field: DescField, style: MessageStyle, depth: number): Buffer {
  const message = field.message;
  if (message !== undefined) {
    const inner = depth >= DEEPEST ? Buffer.alloc(0) : randomMessage(random, message, style, depth + 1);
    return new WireWriter().tag(field.number, wireTypes.bytes).bytes(inner).done();
  }
  const wild = random.fraction() < style.wildness;
  const hinted = wild ? undefined : style.hints?.(field, random);
  if (field.enum !== undefined) {
    const known = field.enum.values;
    const value = hinted ?? (wild ? anyNumber(random) : random.pick(known).number);
    return number(field.number, value as bigint | number);
  }
  return scalarBytes(random, field.number, field.scalar ?? ScalarType.BYTES, hinted);
}

function scalarBytes(random: Random, tag: number, type: ScalarType, hinted: ReturnType<Hints>): Buffer {
  const writer = new WireWriter();
  const isBytes = hinted instanceof Uint8Array || typeof hinted === "string";
  const text = isBytes ? Buffer.from(hinted as string) : undefined;
  const counter = isBytes ? undefined : hinted;
  switch (type) {
    case ScalarType.STRING:
    case ScalarType.BYTES: {
      const drawn = type === ScalarType.STRING ? anyText : anyBytes;
      return writer
        .tag(tag, wireTypes.bytes)
        .bytes(text ?? drawn(random))
        .done();
    }
    case ScalarType.BOOL:
      return number(tag, counter ?? random.whole(0, 1));
    case ScalarType.FIXED32:
    case ScalarType.SFIXED32:
    case ScalarType.FLOAT:
      return writer
        .tag(tag, wireTypes.fixed32)
        .fixed32(Number(counter ?? random.whole(0, 2 ** 32 - 1)))
        .done();
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
    case ScalarType.DOUBLE:
      return writer
        .tag(tag, wireTypes.fixed64)
        .fixed64(BigInt(counter ?? anyNumber(random)))
        .done();
    default:
      return number(tag, counter ?? anyNumber(random));
  }
}

function number(tag: number, value: bigint | number): Buffer {
  return new WireWriter().tag(tag, wireTypes.varint).varint(value).done();
}

/** A field as no encoder writes it. */
function wildField(random: Random, tag: number): Buffer {
  const writer = new WireWriter();
  switch (random.whole(0, 8)) {
    case 0:
      return writer.tag(tag, wireTypes.varint).varint(anyNumber(random), random.whole(0, 9)).done();
    case 1:
      return writer.tag(tag, wireTypes.fixed64).fixed64(anyNumber(random)).done();
    case 2:
      return writer
        .tag(tag, wireTypes.fixed32)
        .fixed32(random.whole(0, 2 ** 32 - 1))
        .done();
    case 3:
      return writer.tag(tag, wireTypes.bytes).bytes(anyBytes(random)).done();
    case 4:
      // A length beyond the message's end.
      return writer
        .tag(tag, wireTypes.bytes)
        .bytes(anyBytes(random), Number(anyNumber(random) % 2n ** 32n))
        .done();
    case 5:
      return nested(tag, random.whole(1, random.oneIn(10) ? 400 : 110));
    case 6:
      return groups(tag, random.whole(1, random.oneIn(10) ? 5_000 : 110), random.oneIn(2));
    case 7:
      // Wire types 6 and 7 do not exist.
      return writer.tag(tag, random.whole(6, 7)).raw(anyBytes(random)).done();
    default:
      return writer
        .tag(tag, wireTypes.varint)
        .raw(Buffer.alloc(random.whole(10, 20), 0xff))
        .done();
  }
}

/** Messages within messages, all in the same field. */
function nested(tag: number, levels: number): Buffer {
  let inner: Buffer = Buffer.alloc(0);
  for (let level = 0; level < levels; level++) {
    inner = new WireWriter().tag(tag, wireTypes.bytes).bytes(inner).done();
  }
  return inner;
}

/** Groups within groups, which may lack their ends. */
function groups(tag: number, levels: number, areClosed: boolean): Buffer {
  const writer = new WireWriter();
  for (let level = 0; level < levels; level++) writer.tag(tag, wireTypes.groupStart);
  for (let level = 0; areClosed && level < levels; level++) writer.tag(tag, wireTypes.groupEnd);
  return writer.done();
}
