import { checkObject, checkWholeNumber, invalid } from "../../base/arguments.js";
import { limits } from "../../base/limits.js";

// Names the limits that keep floods from a server.

const names = [
  "connections",
  "connectionsPerAddress",
  "peerConnections",
  "lateConnections",
  "lateConnectionMs",
  "greetingMs",
  "connectionIdleMs",
  "headerPairs",
  "headerBytes",
  "controlFramesPerSecond",
  "invalidFrames",
  "connectionMemoryMiB",
  "streams",
  "peerStreams",
  "messageMs",
  "messageRateBytes",
  "callMs",
  "callMsMax",
  "requestBytes",
  "peerRequestBytes",
  "smallRequestReserveBytes",
  "answerBytes",
  "connectionAnswerBytes",
  "slowReaderMs",
  "slowReaderMsUnderPressure",
] as const;

/** The limits of one server, by the names that `limits` gives them. */
export type FloodLimits = Readonly<Record<(typeof names)[number], number>>;

/**
 * Returns the limits of a server: the defaults, but for those that are given.
 * @throws CairnError INVALID_ARGUMENT for a name or a number that is no limit
 */
export function floodLimits(given: Partial<FloodLimits> = {}): FloodLimits {
  for (const [name, value] of Object.entries(checkObject("limits", given))) {
    if (!isName(name)) throw invalid("limits", `an object with some of ${names.join(", ")}`, name);
    if (value !== undefined) checkWholeNumber(`limits.${name}`, value, 1);
  }
  return Object.fromEntries(names.map((name) => [name, given[name] ?? limits[name]])) as FloodLimits;
}

function isName(name: string): name is keyof FloodLimits {
  return (names as readonly string[]).includes(name);
}
