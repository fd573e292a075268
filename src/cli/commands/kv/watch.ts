import { type Command, Option } from "commander";
import { TIMER_MS_MAX } from "../../../base/arguments.js";
import { limits } from "../../../base/limits.js";
import type { CairnClient, StoredValue, WatchEvent, WatchKeys } from "../../../client.js";
import { wholeNumber } from "../../options/options.js";
import { exitCodes } from "../../output/exit_codes.js";
import { print } from "../../output/output.js";
import { untilSignal } from "../../output/signals.js";
import { type Common, common, jsonOf, valueFields, withClient } from "./common.js";

interface WatchFlags extends Common {
  readonly prefix?: string;
  readonly start?: string;
  readonly end?: string;
  readonly from?: string;
  readonly initial?: true;
  readonly previous?: true;
  readonly only?: "puts" | "deletes";
  readonly progressMs?: number;
  readonly limit?: number;
}

const HELP = `
A line has the index of the change, a tab, put or delete, a tab, the key, and for a put a tab and the value. A key or value with control characters,
such as an end of line, is printed as a JSON string. With --previous the value before the change follows: - if there was no key, ? if it is not
known any more. With --initial, lines with "existing" come first, and "listed" ends them; "restarted" means that the history was lost and all keys
follow again. --from resumes: a token, which --json prints with each event, goes on behind that event; an index is the first one to report.
The watch goes on by itself when nodes fail. Exits with 0 on SIGINT and SIGTERM, when the reader of standard output is gone, and after --limit
events; with 1 when the history since --from is gone (OUT_OF_RANGE), or no node answers within --timeout-ms at the start.

Examples:
  cairn kv watch --prefix config/ --initial
  cairn kv watch leader --from 1200 --json`;

/** Defines `cairn kv watch`, which prints changes of keys as they are made. */
export function watchCommand(): Command {
  return common("watch [key]", "Print the changes of a key, of a part of the keys or of all keys, a line each.")
    .addOption(new Option("--prefix <prefix>", "only keys that start with this").conflicts(["start", "end"]))
    .option("--start <key>", "only this key and those behind it")
    .option("--end <key>", "only keys before this one")
    .option("--from <token>", "begin behind the event with this token, or with this index; default: now")
    .addOption(new Option("--initial", "print the existing keys first, then each change").conflicts("from"))
    .option("--previous", "also print the value before each change, where it is still known")
    .addOption(new Option("--only <changes>", "only puts, or only deletes").choices(["puts", "deletes"]))
    .option("--progress-ms <n>", "print a line this often while nothing changes", wholeNumber(100, TIMER_MS_MAX / 2))
    .option("--limit <n>", "end after this many lines", wholeNumber(1, limits.countMax))
    .addHelpText("after", HELP)
    .action((key: string | undefined, flags: WatchFlags, command: Command) => {
      const others = [flags.prefix, flags.start, flags.end].filter((each) => each !== undefined);
      if (key !== undefined && others.length > 0) {
        command.error("error: give either a key, or --prefix, or --start and --end");
      }
      return withClient(flags, (client) => watch(client, targetOf(key, flags), flags), false);
    });
}

function targetOf(key: string | undefined, { prefix, start, end }: WatchFlags): WatchKeys | undefined {
  if (key !== undefined) return key;
  if (prefix !== undefined) return { prefix };
  return start === undefined && end === undefined ? undefined : { start, end };
}

async function watch(client: CairnClient, target: WatchKeys | undefined, flags: WatchFlags): Promise<number> {
  const { from, initial, previous, only, progressMs, limit = Number.POSITIVE_INFINITY, json } = flags;
  const isIndex = from !== undefined && /^\d+$/.test(from);
  const watched = client.watch(target, { from: isIndex ? Number(from) : from, initial, previous, only, progressMs });
  void untilSignal().then(() => watched.close());
  let count = 0;
  for await (const event of watched) {
    const line = json ? JSON.stringify(jsonOfEvent(event, previous)) : textOfEvent(event, previous);
    if (!(await print(`${line}\n`)) || ++count >= limit) break;
  }
  return exitCodes.ok;
}

function textOfEvent(event: WatchEvent, withPrevious = false): string {
  const fields = textFields(event);
  if (withPrevious && (event.type === "put" || event.type === "delete")) fields.push(previousText(event));
  return fields.join("\t");
}

function textFields(event: WatchEvent): string[] {
  switch (event.type) {
    case "put":
      return [`${event.index}`, event.type, oneLine(event.key), oneLine(event.value.text())];
    case "delete":
      return [`${event.index}`, event.expired ? "expired" : event.type, oneLine(event.key)];
    case "existing":
      return [`${event.value.version}`, event.type, oneLine(event.key), oneLine(event.value.text())];
    case "restarted":
      return ["-", event.type, oneLine(event.reason.message)];
    default:
      return [`${event.index}`, event.type];
  }
}

function previousText({
  previous,
  previousKnown,
}: {
  previous: StoredValue | undefined;
  previousKnown: boolean;
}): string {
  if (!previousKnown) return "?";
  return previous === undefined ? "-" : oneLine(previous.text());
}

/** Returns a text that stays on its line, and in its column. */
function oneLine(text: string): string {
  return /\p{Cc}/u.test(text) ? JSON.stringify(text) : text;
}

function jsonOfEvent(event: WatchEvent, withPrevious = false): object {
  switch (event.type) {
    case "put":
    case "delete": {
      const { type, index, token, more, key, leaseId, previous, previousKnown } = event;
      const change =
        event.type === "put"
          ? { ...valueFields(event.value.bytes), created: event.created }
          : { expired: event.expired };
      const before = previous === undefined ? null : { ...valueFields(previous.bytes), version: previous.version };
      return {
        type,
        index,
        token,
        more,
        key,
        ...change,
        leaseId,
        ...(withPrevious && previousKnown && { previous: before }),
      };
    }
    case "existing":
      return { type: event.type, ...jsonOf(event.value), leaseId: event.leaseId };
    case "restarted": {
      const { code, text: message, oldestIndex } = event.reason;
      return { type: event.type, reason: { code, message, oldestIndex } };
    }
    default:
      return event;
  }
}
