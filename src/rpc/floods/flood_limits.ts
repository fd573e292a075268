import { checkObject, checkWholeNumber, invalid } from "../../base/arguments.js";
import { limits } from "../../base/limits.js";

// Names the limits that keep floods from a server.

/** The limits of one server, by the names that `limits` and docs/limits.md give them. */
export interface FloodLimits {
  readonly connections: number;
  readonly connectionsPerAddress: number;
  readonly peerConnections: number;
  readonly lateConnections: number;
  readonly lateConnectionMs: number;
  readonly greetingMs: number;
  readonly connectionIdleMs: number;
  readonly headerPairs: number;
  readonly headerBytes: number;
  readonly controlFramesPerSecond: number;
  readonly invalidFrames: number;
  readonly connectionMemoryMiB: number;
  readonly streams: number;
  readonly peerStreams: number;
  readonly messageMs: number;
  readonly messageRateBytes: number;
  readonly callMs: number;
  readonly callMsMax: number;
  readonly requestBytes: number;
  readonly peerRequestBytes: number;
  readonly smallRequestReserveBytes: number;
  readonly answerBytes: number;
  readonly connectionAnswerBytes: number;
  readonly slowReaderMs: number;
  readonly slowReaderMsUnderPressure: number;
  readonly slowReaderStreams: number;
}

/** Names each limit, so that the compiler finds one that is missing. */
const NAMES: Readonly<Record<keyof FloodLimits, true>> = {
  connections: true,
  connectionsPerAddress: true,
  peerConnections: true,
  lateConnections: true,
  lateConnectionMs: true,
  greetingMs: true,
  connectionIdleMs: true,
  headerPairs: true,
  headerBytes: true,
  controlFramesPerSecond: true,
  invalidFrames: true,
  connectionMemoryMiB: true,
  streams: true,
  peerStreams: true,
  messageMs: true,
  messageRateBytes: true,
  callMs: true,
  callMsMax: true,
  requestBytes: true,
  peerRequestBytes: true,
  smallRequestReserveBytes: true,
  answerBytes: true,
  connectionAnswerBytes: true,
  slowReaderMs: true,
  slowReaderMsUnderPressure: true,
  slowReaderStreams: true,
};

const names = Object.keys(NAMES) as (keyof FloodLimits)[];

/**
 * Returns the limits of a server: the defaults, but for those that are given.
 * @throws CairnError INVALID_ARGUMENT for a name or a number that is no limit
 */
export function floodLimits(given: Partial<FloodLimits> = {}): FloodLimits {
  for (const [name, value] of Object.entries(checkObject("limits", given))) {
    if (!isName(name)) throw invalid("limits", `an object with some of ${names.join(", ")}`, name);
    if (value !== undefined) checkWholeNumber(`limits.${name}`, value, 1);
  }
  return Object.fromEntries(names.map((name) => [name, given[name] ?? limits[name]])) as unknown as FloodLimits;
}

function isName(name: string): name is keyof FloodLimits {
  return Object.hasOwn(NAMES, name);
}
