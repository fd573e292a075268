import { create } from "@bufbuild/protobuf";
import { type CommandResult, CommandResultSchema } from "../../../../gen/cairn/v1/storage_pb.js";
import { encodeResult, withoutValue } from "../command.js";
import { encodedAnswerBytesMax } from "../session_limits.js";

/**
 * Returns a result as it is remembered: whole, or without what makes it too long. The same on every
 * replica.
 */
export function rememberedResult(result: CommandResult, valueBytes: number): CommandResult {
  if (result.results.length === 0) return result.value.byteLength <= valueBytes ? result : withoutValue(result);
  const { outcome, index, succeeded, results } = result;
  const isShort = (candidate: CommandResult) => encodeResult(candidate).byteLength <= encodedAnswerBytesMax(valueBytes);
  if (isShort(result)) return result;
  const withoutReads = create(CommandResultSchema, { outcome, index, succeeded, results: results.map(withoutRead) });
  if (isShort(withoutReads)) return withoutReads;
  return create(CommandResultSchema, { outcome, index, succeeded, valueForgotten: true });
}

/** Returns the result of a step, without what it read. */
function withoutRead(result: CommandResult): CommandResult {
  if (result.version === 0n && result.records.length === 0) return result;
  return create(CommandResultSchema, { outcome: result.outcome, valueForgotten: true });
}
