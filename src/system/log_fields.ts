// Names the fields of a log line, so that one thing has one name in all lines and in the metrics.

/** A field of a log line. */
interface LogFieldRules {
  readonly text: string;
  /**
   * Lines with the same message and the same values of such fields are repeats of one event. Every
   * other field measures: its value differs from one repeat to the next.
   */
  readonly identifies?: true;
  /** The metric, or the label of one, that has the same meaning. */
  readonly metric?: string;
  readonly label?: string;
}

const identifies = true;

/**
 * Every field that a line may have, besides `level`, `time` and `msg`. A call of a {@link Logger}
 * with another one does not compile.
 */
export const logFields = {
  node: { text: "Node that the line is about: the one that writes it.", identifies, label: "node" },
  peer: { text: "Another member.", identifies, label: "peer" },
  peers: { text: "Several of them, with their addresses.", identifies },
  address: { text: "host:port of the other end, or where this process listens.", identifies },
  leader: { text: "Leader of the cluster; empty: none is known.", identifies },
  role: { text: "Role of the node in Raft.", identifies, label: "role" },
  members: { text: "Members of the cluster, with those that do not vote marked.", identifies },
  reason: { text: "Cause of the event, in a few words.", identifies, label: "reason" },
  detail: { text: "The cause in full.", identifies },
  err: { text: "The error: its type, code, message and stack.", identifies },
  code: { text: "Code of the error with which a call ended, or OK.", identifies, label: "code" },
  method: { text: "Method that was called: /package.Service/Method.", identifies, label: "method" },
  kind: { text: "Kind of a thing.", identifies, label: "kind" },
  limit: { text: "Name of the limit; docs/limits.md lists them.", identifies, label: "limit" },
  path: { text: "File.", identifies },
  files: { text: "Files.", identifies },
  audit: {
    text: "The line belongs to the audit: admin, refused or rules. It is never left out as a repeat.",
    identifies,
  },
  caller: { text: "Name of the caller in the access file; unknown: it has no valid credentials.", identifies },
  via: { text: "Member that passed the call on.", identifies },
  missing: { text: "Right that the caller lacks; of a key, its beginning.", identifies },
  stateRebuilt: { text: "Whether the state was loaded from a snapshot.", identifies },
  term: { text: "Term.", metric: "cairn_raft_term" },
  index: { text: "Index of the entry that the line is about." },
  firstIndex: { text: "First entry that the log holds.", metric: "cairn_log_first_index" },
  lastIndex: { text: "Last entry of the log.", metric: "cairn_raft_last_index" },
  appliedIndex: { text: "Last entry that is applied to the state.", metric: "cairn_raft_applied_index" },
  matchIndex: { text: "Last entry that a member acknowledged." },
  snapshotIndex: { text: "Index of a snapshot.", metric: "cairn_snapshot_index" },
  entries: { text: "Entries that a start has replayed, or that were trimmed after a snapshot." },
  lagEntries: { text: "Entries that a member lacks.", metric: "cairn_raft_peer_lag_entries" },
  bytes: { text: "Size of the snapshot or the record; of a limit, its value." },
  doneBytes: { text: "Bytes of a transfer that the receiver has.", metric: "cairn_transfer_done_bytes" },
  totalBytes: { text: "Bytes of a transfer.", metric: "cairn_transfer_total_bytes" },
  pinnedBytes: { text: "Bytes of log that are kept for followers.", metric: "cairn_log_pinned_bytes" },
  durationMs: { text: "Time that it took, or has taken so far." },
  retryMs: { text: "Pause before the next attempt." },
  times: { text: "Number of events that the line tells of." },
  repeats: { text: "Number of equal events since, that have no line of their own." },
  spanMs: { text: "Time in which those came." },
  pid: { text: "Process." },
  line: { text: "Number of a line of the input." },
} as const satisfies Readonly<Record<string, LogFieldRules>>;

export type LogField = keyof typeof logFields;

/** The facts of a log line, by field. A field without a value is left out. */
export type LogFacts = {
  readonly [Field in Exclude<LogField, "err">]?: string | number | boolean | readonly string[] | undefined;
} & {
  /** A thrown value. */
  readonly err?: unknown;
};

const rules: Readonly<Record<string, LogFieldRules>> = logFields;

/** The fields whose values tell one event from another, in their order. */
export const identifyingFields: readonly LogField[] = (Object.keys(logFields) as LogField[]).filter(
  (field) => rules[field]?.identifies === true,
);
