import {
  create,
  type DescMessage,
  type DescMethod,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import type { CairnError } from "../base/errors.js";
import { limits } from "../base/limits.js";
import { overLimit } from "../base/telemetry/refusals.js";

// Encodes and decodes messages, and names methods.

/** A message to send, of any type. */
export type AnyMessage = MessageInitShape<DescMessage>;

/** Bytes before a message of gRPC: whether it is compressed, and its length. */
const HEAD_BYTES = 5;

/** A smaller message is copied for each stream. */
const SHARED_BYTES = 4_096;

const frames = new WeakMap<Buffer, Buffer>();

/**
 * A message that is encoded already: one answer to many streams is encoded once, and is once in
 * memory. `written` is called when the network has taken it.
 */
export class EncodedMessage {
  constructor(
    readonly bytes: Buffer,
    readonly written: () => void,
  ) {
    if (bytes.byteLength < SHARED_BYTES || frames.has(bytes)) return;
    const frame = Buffer.allocUnsafe(HEAD_BYTES + bytes.byteLength);
    frame.writeUInt8(0, 0);
    frame.writeUInt32BE(bytes.byteLength, 1);
    bytes.copy(frame, HEAD_BYTES);
    frames.set(bytes, frame);
  }
}

/** Returns a message as gRPC frames it, if it goes to many streams. */
export function sharedFrame(message: unknown): Buffer | undefined {
  return Buffer.isBuffer(message) ? frames.get(message) : undefined;
}

/** Returns a method's name as errors show it: `cairn.v1.KeyValueService/Put`. */
export function methodName(method: DescMethod): string {
  return `${method.parent.typeName}/${method.name}`;
}

/** Returns a method's path in HTTP/2. */
export function methodPath(method: DescMethod): string {
  return `/${methodName(method)}`;
}

/**
 * Encodes a message, and returns the memory that the encoder made. A whole message is encoded as it
 * is; the fields of a message are made into one first. Throws LIMIT_EXCEEDED above `messageBytes`.
 */
export function encodeMessage<Schema extends DescMessage>(schema: Schema, message: MessageInitShape<Schema>): Buffer {
  const bytes = toBinary(schema, create(schema, message));
  if (bytes.byteLength > limits.messageBytes) throw messageTooLarge(schema.typeName, bytes.byteLength);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * Decodes a message. Its `bytes` fields are views of the same memory. Throws the decoder's errors.
 */
export function decodeMessage<Schema extends DescMessage>(schema: Schema, bytes: Buffer): MessageShape<Schema> {
  return fromBinary(schema, bytes);
}

/**
 * Returns the bytes that a waiting message counts for: its own, and an allowance for the objects
 * around it, so that empty messages count too.
 */
export function bufferedBytes(message: Buffer): number {
  return message.byteLength + MESSAGE_OVERHEAD_BYTES;
}

const MESSAGE_OVERHEAD_BYTES = 256;

function messageTooLarge(typeName: string, bytes: number): CairnError {
  const limit = limits.messageBytes;
  return overLimit(
    "LIMIT_EXCEEDED",
    "messageBytes",
    `${typeName} takes ${bytes} bytes, above the limit messageBytes (${limit}): send less in one message`,
  );
}
