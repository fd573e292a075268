import { assert } from "./assert.js";

const KiB = 1024;
const MiB = 1024 * KiB;

/**
 * Every limit of Cairn, in bytes or counts. A message that refuses something because of a limit
 * names the limit as here. Their relations are asserted below, when this file is loaded.
 */
export const limits = Object.freeze({
  /** Longest key. Keys have at least one byte. */
  keyBytes: 1 * KiB,
  /** Longest value. */
  valueBytes: 1.5 * MiB,
  /** Largest encoded log entry. */
  entryBytes: 2 * MiB,
  /** Set aside in an entry for what is around its data. */
  entryAllowanceBytes: 64,
  /** Largest gRPC message, sent or received. */
  messageBytes: 4 * MiB,
  /**
   * Encoded messages that wait at one end of a gRPC stream, for each direction: a sender waits, and
   * a receiver stops reading, when they are more. One message always fits.
   */
  streamBufferBytes: 256 * KiB,
  /**
   * Bytes on their way to a server that it has not read yet, on one connection: what a sender need
   * not wait for a word of the receiver for.
   */
  serverWindowBytes: 1 * MiB,
  /** Calls and streams at a time on one connection; a client holds further ones back. */
  streamsPerConnection: 4096,
  /** Longest text of an error that goes over the network, in characters; the rest is cut. */
  errorTextCharacters: 2048,
  /**
   * Caps the entries in one AppendEntries message that a sender may build; it leaves room for the
   * fields around the entries.
   */
  appendBytes: 4 * MiB - 64 * KiB,
  /** Most entries in one AppendEntries message. */
  appendEntries: 16 * KiB,
  /** AppendEntries requests of one stream that are in the works; the sender is held back beyond. */
  appendsInFlight: 256,
  /**
   * Entries that a leader puts into one AppendEntries message count no more than this, unless one
   * entry alone does.
   */
  appendBatchBytes: 1 * MiB,
  /**
   * AppendEntries messages with entries that a leader has sent to one follower without having the
   * answer.
   */
  peerAppendsInFlight: 64,
  /** Entries in them. One message may exceed it. */
  peerBytesInFlight: 8 * MiB,
  /**
   * Messages that wait until a peer reads its AppendEntries stream; when they are more, the stream
   * is given up.
   */
  peerQueueBytes: 16 * MiB,
  /** An attempt to connect to a peer is given up and begun anew after so many milliseconds. */
  peerConnectMs: 1_000,
  /**
   * A peer's connection is probed after so many milliseconds, and given up when the probe is not
   * answered in the time below.
   */
  peerPingMs: 1_000,
  peerPingTimeoutMs: 2_000,
  /** Timeout for a peer's answer to RequestVote or TimeoutNow, in milliseconds. */
  peerCallMs: 2_000,
  /** A peer that has refused an AppendEntries stream gets a new one after so many milliseconds. */
  peerPauseMs: 250,
  /**
   * Longest encoded result of a command to an application's own machine, for callers of other
   * members.
   */
  machineResultBytes: 4 * MiB - 64 * KiB,
  /** A part of a Range answer holds about so many bytes. */
  rangePartBytes: 256 * KiB,
  /**
   * Calls of one Session stream that are in the works or whose answers wait to be sent; the server
   * reads no further meanwhile.
   */
  sessionCallsInFlight: 1024,
  /** Calls, or answers, that one end puts into one Session message. */
  sessionMessageCalls: 1024,
  /** A Session message holds about so many bytes; what is larger by itself goes alone. */
  sessionMessageBytes: 256 * KiB,
  /**
   * Writes of one client that are under way or wait for the answers to earlier ones; further ones
   * wait for their turn.
   */
  clientWritesInFlight: 128,
  /** The same limit in bytes; one write of any size always fits. */
  clientWriteBytesInFlight: 16 * MiB,
  /** Reads of one client that are under way; further ones wait for their turn. */
  clientReadsInFlight: 512,
  /** Calls of one client that wait for their turn; further ones fail at once with QUEUE_FULL. */
  clientQueueCalls: 128 * KiB,
  /** The same limit in bytes of keys and values. */
  clientQueueBytes: 128 * MiB,
  /** Longest client id of a request id. */
  clientIdBytes: 256,
  /** Longest node id or cluster id, in characters. */
  idCharacters: 64,
  /**
   * Longest address of a member, in characters: the longest DNS name (253) and a port fit, with
   * room to spare.
   */
  addressCharacters: 320,
  /**
   * Members of a cluster. So many, with longest ids and addresses, still fit the header of a
   * snapshot.
   */
  members: 1_000,
  /**
   * Highest term that is taken from a peer, a file or a caller, and that a node campaigns in (T6).
   * 2^48 elections, one each millisecond, take 8,900 years; and a number that is a little above the
   * bound is still exact, so that comparing, adding and printing it is safe. At 2^53 - 1 the next
   * term would no longer be a number of its own.
   */
  termMax: 2 ** 48,
  /**
   * Highest index of a log, taken from outside or reached. At a million entries a second it lasts
   * 8.9 years.
   */
  indexMax: 2 ** 48,
  /** Highest of all other counters from outside: sizes in bytes, offsets, numbers of things. */
  countMax: 2 ** 48,
  /**
   * Highest sequence of a client's request. Nothing counts on from it, so a clock's microseconds
   * may serve as one.
   */
  sequenceMax: 2 ** 52,
  /**
   * Terms that one message may raise a node's term by; see raft/admission.ts. One wild message
   * costs a 65,536th of all terms at most.
   */
  termJump: 2 ** 32,
  /**
   * After a peer's violation of the protocol is logged, further ones are only counted for so many
   * milliseconds.
   */
  violationLogMs: 60_000,
  /** A node's status warns of a violation for this long after the last one, in milliseconds. */
  violationShownMs: 3_600_000,
  /**
   * Sessions (clients with request ids) that the cluster remembers; the one unused for longest goes
   * first. This and the next six are part of the log's meaning: another number needs another
   * version of the rules in machine/kv/session_limits.ts.
   */
  sessions: 10_000,
  /** Answers remembered for each session; the oldest goes first. */
  sessionAnswers: 128,
  /**
   * Longest value that is remembered with an answer; of a longer one the cluster remembers the
   * version.
   */
  sessionValueBytes: 1 * KiB,
  /** All that is remembered of sessions; the one unused for longest goes first. Counts as below. */
  sessionBytes: 64 * MiB,
  /** Counted for a session besides its client id, and for an answer besides its encoding. */
  sessionOverheadBytes: 64,
  answerOverheadBytes: 32,
  /** Most bytes of an encoded answer besides its value. */
  answerFieldsBytes: 64,
  /** Proposals waiting for their commit, in bytes; more are refused. */
  uncommittedBytes: 64 * MiB,
  /**
   * Entries handed to the state machine at a time, so that applying never holds up the event loop
   * for long: one that has to be read from disk first may take 0.1 ms.
   */
  applyEntries: 256,
  /** The same limit in bytes. */
  applyBytes: 256 * KiB,
  /**
   * Entries above the applied index and recent ones that the core keeps in memory, in bytes, before
   * it relies on the log on disk.
   */
  windowBytes: 8 * MiB,
  /** Payload chunk of a snapshot file. */
  snapshotChunkBytes: 256 * KiB,
  /** Largest payload chunk that a reader accepts. */
  snapshotChunkBytesMax: 1 * MiB,
  /** Piece in which a state machine hands out its snapshot payload. */
  payloadPieceBytes: 64 * KiB,
  /** Payload that is written, or put into a restored state, before the event loop gets its turn. */
  payloadSliceBytes: 256 * KiB,
  /**
   * Buffers in which the worker thread of the state hands out a snapshot, or is handed one; when
   * all are in use, the sender waits.
   */
  workerBuffers: 4,
  /**
   * Reads of the state on disk (ranges, snapshots being written) under way at a time; more are
   * refused.
   */
  stateReaders: 1024,
  /**
   * A state on disk is rebuilt when the process has opened it so many times and each time ended
   * soon, without closing it: damage in LMDB's file can end the process.
   */
  stateOpenings: 2,
  /** An opening of the state has lasted, and counts no more, after so many milliseconds. */
  stateOpeningMs: 30_000,
  /** Largest header of a snapshot file. */
  snapshotHeaderBytes: 1 * MiB,
  /** One write to a snapshot file, and one read from it. */
  snapshotWriteBytes: 512 * KiB,
  /**
   * Bytes written to a snapshot file after which they are synced. A sync of the log waits behind
   * one of these, so they are short.
   */
  snapshotSyncBytes: 2 * MiB,
  /** Chunk of a snapshot on its way to a follower, unless the caller says otherwise. */
  installChunkBytes: 512 * KiB,
  /** Largest chunk of an InstallSnapshot or DownloadSnapshot stream. */
  transferChunkBytes: 1 * MiB,
  /**
   * A snapshot is received only if so many bytes stay free on the disk behind it: the log must go
   * on.
   */
  receiveReserveBytes: 16 * MiB,
  /**
   * A process that holds a data directory's lock shows every so many milliseconds that it lives.
   */
  lockBeatMs: 1_000,
  /**
   * A lock holder that has shown no beat for this long, in milliseconds, counts as dead. This
   * decides only when nothing else tells a dead process from a living one: the holder ran on
   * another machine, or on this one before it was rebooted.
   */
  lockStandstillMs: 15_000,
  /** A transfer of a snapshot in which nothing moves for so many milliseconds is given up. */
  transferIdleMs: 30_000,
  /** Least bandwidth that snapshots on their way may be limited to, in bytes per second. */
  transferBandwidthLeast: 1 * KiB,
  /** Snapshots that a node sends at a time; further followers wait for their turn. */
  outgoingTransfers: 2,
  /**
   * After a transfer was interrupted, its snapshot and the log behind it are kept for so many
   * milliseconds, for the next one to go on with; but no more log than pinnedLogBytes.
   */
  transferResumeMs: 60_000,
  /**
   * When members' states are compared: how often it begins anew, at a newer index, because a member
   * has gone on.
   */
  verifyAttempts: 5,
  /**
   * Timeout for a member's report of its position, and for a member that makes no progress, in
   * milliseconds.
   */
  verifyLookMs: 2_000,
  verifyIdleMs: 10_000,
  /**
   * Snapshots kept on disk. The log reaches back to the second newest, so that it and the log
   * replace a damaged newest one.
   */
  snapshotsKept: 2,
  /** Segment of the log. */
  segmentBytes: 64 * MiB,
  /**
   * Step in which a segment is filled with zeros ahead of its records: overwriting is faster to
   * sync than growing a file.
   */
  segmentFillBytes: 256 * KiB,
  /**
   * Kept filled behind the records, so that a full disk still takes what trims the log, or a vote.
   */
  segmentReserveBytes: 4 * KiB,
  /** Log kept behind a snapshot for slow followers, unless the caller says otherwise. */
  trailingLogBytes: 64 * MiB,
  /**
   * Log kept for followers that are receiving a snapshot, at most: they will need what was written
   * meanwhile.
   */
  pinnedLogBytes: 1024 * MiB,
  /**
   * A follower that lacks more bytes of log than this gets the newest snapshot instead, although
   * the log still has all that it lacks, when the snapshot is the smaller of the two.
   */
  snapshotInsteadBytes: 4 * MiB,
  /**
   * A snapshot is taken by itself when so many entries were applied since the last one, unless the
   * caller says otherwise.
   */
  snapshotEntries: 100_000,
  /** The same in bytes of log. */
  snapshotLogBytes: 64 * MiB,
  /**
   * Neither counts before the log since the last snapshot is so many times as large as that one.
   */
  snapshotLogRatio: 1,
  /** Delay for which a leader lets its followers take a snapshot first, in milliseconds. */
  snapshotPatienceMs: 5_000,
  /**
   * A snapshot that failed is tried again after so many milliseconds, then after twice as many, and
   * so on up to the second number.
   */
  snapshotRetryMs: 1_000,
  snapshotRetryMsMax: 60_000,
  /**
   * A member that has not answered for so many milliseconds, and lacks so many entries, is
   * something that an operator is told of.
   */
  silentMs: 60_000,
  silentEntries: 10_000,
  /** Health goes by the longest durations within so many milliseconds. */
  healthWindowMs: 60_000,
  /**
   * A sync of the log, a pause of the process or an answer is slow from half an election timeout
   * on, and no sooner than this.
   */
  slowMs: 500,
  /**
   * After a write of the log that was stuck, a node does not campaign for so many election
   * timeouts, unless a quick write ends it.
   */
  stuckTimeouts: 5,
  /** Term ranges named by GetLogInfo. */
  termRanges: 1000,
  /** A line of the gateway's input. */
  gatewayLineBytes: 64 * MiB,
  /** Objects and lists within each other in a value of the gateway's input. */
  gatewayJsonDepth: 1000,
  /**
   * Clients of requests with `client_id` that a gateway knows; to it, further ones may be such as
   * the store has forgotten.
   */
  gatewayClients: 100_000,
  /** Entries that one seed_state of the gateway may put into a log. */
  gatewaySeedEntries: 10_000_000,
} as const);

assert(limits.keyBytes + limits.valueBytes + 4 * KiB <= limits.entryBytes, "a largest put fits an entry");
assert(limits.entryBytes + 64 * KiB <= limits.appendBytes, "a largest entry fits an AppendEntries message");
assert(limits.appendBatchBytes <= limits.appendBytes, "what a leader gathers fits an AppendEntries message");
assert(limits.appendBatchBytes <= limits.peerBytesInFlight, "a message fits what may be in flight");
assert(
  limits.peerBytesInFlight + limits.appendBytes < limits.peerQueueBytes,
  "what is in flight to a peer may wait for it",
);
assert(limits.peerAppendsInFlight <= limits.appendsInFlight, "a follower takes what a leader may have in flight");
assert(limits.appendBytes < limits.messageBytes, "an AppendEntries message fits a gRPC message");
assert(limits.machineResultBytes + 4 * KiB < limits.messageBytes, "a longest result fits a gRPC message");
assert(limits.installChunkBytes <= limits.transferChunkBytes, "a chunk is not too large for its receiver");
assert(limits.transferChunkBytes + 64 * KiB <= limits.messageBytes, "a transfer chunk fits a gRPC message");
assert(limits.snapshotChunkBytes <= limits.snapshotChunkBytesMax, "a written snapshot chunk can be read");
assert(limits.entryBytes * 2 < limits.segmentBytes, "a segment holds a largest entry");
assert(limits.segmentReserveBytes < limits.segmentFillBytes, "a filling step holds the reserve");
assert(limits.segmentFillBytes <= limits.segmentBytes, "a segment holds a filling step");
assert(limits.snapshotWriteBytes <= limits.snapshotSyncBytes, "a write of a snapshot fits between two syncs");
assert(
  limits.sessionMessageBytes <= limits.messageBytes && 2 * limits.valueBytes + 64 * KiB <= limits.messageBytes,
  "a full Session message and a largest compare-and-set fit a gRPC message",
);
assert(
  limits.sessionOverheadBytes +
    limits.clientIdBytes +
    limits.sessionAnswers * (limits.answerOverheadBytes + limits.answerFieldsBytes + limits.sessionValueBytes) <=
    limits.sessionBytes,
  "a largest session fits what is remembered of all",
);
assert(
  limits.clientWritesInFlight <= limits.sessionAnswers,
  "the cluster remembers the answers to all writes that a client may send again",
);
assert(
  limits.clientWritesInFlight + limits.clientReadsInFlight <= limits.sessionCallsInFlight,
  "a client's calls fit its stream",
);
assert(limits.lockStandstillMs >= 10 * limits.lockBeatMs, "a holder that is slow for a moment is not taken for dead");
assert(limits.snapshotsKept >= 2, "the newest snapshot is kept, and one to replace it");
assert(
  limits.members * (limits.idCharacters + limits.addressCharacters + 256) < limits.snapshotHeaderBytes,
  "a largest membership fits the header of a snapshot, and with that an entry",
);
assert(
  Math.max(limits.termMax, limits.indexMax, limits.countMax, limits.sequenceMax) + limits.termJump < 2 ** 53,
  "what is above the bounds is still counted exactly",
);
assert(limits.termJump * 1_000 < limits.termMax, "one message costs a small part of all terms");
assert(
  limits.clientQueueBytes >= limits.messageBytes && limits.clientQueueCalls >= limits.sessionCallsInFlight,
  "a call of any size may wait, and as many as are under way",
);
