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

/** Returns the limits of a server: the defaults, but for those that are given. */
export function floodLimits(given: Partial<FloodLimits> = {}): FloodLimits {
  return Object.fromEntries(names.map((name) => [name, given[name] ?? limits[name]])) as FloodLimits;
}
