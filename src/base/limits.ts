import { assert } from "./assert.js";

const KiB = 1024;
const MiB = 1024 * KiB;

/**
 * Lists every limit of Cairn. An error text names the limit by the name used here. Assertions below
 * check their relations when this file is loaded.
 */
export const limits = Object.freeze({
  /** Longest key. Keys have at least one byte. */
  keyBytes: 1 * KiB,
  /** Longest value. */
  valueBytes: 1.5 * MiB,
  /** Largest encoded log entry. */
  entryBytes: 2 * MiB,
  /** Reserved in an entry for the fields around its data. */
  entryAllowanceBytes: 64,
  /** Largest gRPC message, sent or received. */
  messageBytes: 4 * MiB,
  /**
   * Encoded messages queued at one end of a gRPC stream, per direction. Above this the sender
   * waits, or the receiver stops reading. One message always fits.
   */
  streamBufferBytes: 256 * KiB,
  /**
   * HTTP/2 receive windows of a server: bytes sent to it that it has not read yet, of a connection
   * (and of each stream of a peer), and of one stream of a client.
   */
  serverWindowBytes: 1 * MiB,
  streamWindowBytes: 128 * KiB,
  /** Concurrent calls and streams on one connection; the client holds further ones back. */
  streamsPerConnection: 4096,
  /** Connections of clients to one node, in all and from one address. */
  connections: 2_048,
  connectionsPerAddress: 1_024,
  /** Connections of peers to one node: those on which every call is one to RaftService. */
  peerConnections: 512,
  /**
   * Without certificates, everybody can pass for a peer, so there are at most as many of these for
   * each member of the cluster, and so many more.
   */
  peerConnectionsPerMember: 8,
  peerConnectionsSpare: 32,
  /**
   * Connections above these limits that may still show what they are. They are closed unless they
   * call RaftService within the second number, in milliseconds.
   */
  lateConnections: 64,
  lateConnectionMs: 2_000,
  /** Time in which a connection must acknowledge the server's HTTP/2 settings, in milliseconds. */
  greetingMs: 10_000,
  /** A connection without any call for this long, in milliseconds, is closed. */
  connectionIdleMs: 600_000,
  /** Header fields of one call. */
  headerPairs: 64,
  /**
   * Header bytes of one call, as HTTP/2 counts them: names, values, and 32 bytes for each field.
   */
  headerBytes: 16 * KiB,
  /** PING and SETTINGS frames of one connection within a second. */
  controlFramesPerSecond: 10_000,
  /** Invalid frames of a connection, calls with too many headers among them; then it is closed. */
  invalidFrames: 100,
  /** Memory of one HTTP/2 connection outside of JavaScript, in MiB; further streams are refused. */
  connectionMemoryMiB: 32,
  /** Calls and streams of clients under way at one node, and those of peers. */
  streams: 24_576,
  peerStreams: 4_096,
  /**
   * Time for the first message of a call, and for each message that has begun to arrive, in
   * milliseconds, besides the time that the message takes at the lowest rate, in bytes a second.
   */
  messageMs: 30_000,
  messageRateBytes: 16 * KiB,
  /** Time for an answer to a call without a deadline, and to one with a deadline; milliseconds. */
  callMs: 60_000,
  callMsMax: 900_000,
  /**
   * Bytes of clients' request messages that are being received, or that calls hold, at one node;
   * and those of peers.
   */
  requestBytes: 96 * MiB,
  peerRequestBytes: 64 * MiB,
  /** Part of these that only messages up to the second number may use. */
  smallRequestReserveBytes: 16 * MiB,
  smallRequestBytes: 64 * KiB,
  /** A compressed message may inflate to 64 KiB, or to this many times its size if that is more. */
  inflateFactor: 64,
  /**
   * Bytes of answers that the network has not taken, of all connections, and of one. Above them,
   * reads wait; streams of those that do not read are ended.
   */
  answerBytes: 32 * MiB,
  connectionAnswerBytes: 8 * MiB,
  /**
   * A stream that takes nothing for this long while something waits for it is ended: in
   * milliseconds, and while the node has `answerBytes`.
   */
  slowReaderMs: 60_000,
  slowReaderMsUnderPressure: 1_000,
  /** Streams of one connection that may be ended for this; then the connection is closed. */
  slowReaderStreams: 8,
  /** Session streams, and streams of keep-alives, of one node; a further one is refused. */
  sessionStreams: 2_048,
  keepAliveStreams: 2_048,
  /** Bytes of calls under way of one Session stream, and of all; above it, a stream is not read. */
  sessionStreamBytes: 16 * MiB,
  sessionStreamsBytes: 64 * MiB,
  /** Snapshots that clients download from one node at a time. */
  downloads: 8,
  /**
   * Interval at which a node looks whether its certificates, keys and authorities on disk have
   * changed, in milliseconds.
   */
  tlsReloadMs: 2_000,
  /** Timeout for a TLS handshake with a node, in milliseconds; the connection is closed then. */
  tlsHandshakeMs: 10_000,
  /** Days before the end of a certificate at which a node warns of it; it also warns after it. */
  certificateWarningDays: 30,
  /**
   * After a refused connection is logged, further ones are only counted for this time, in
   * milliseconds.
   */
  tlsRefusalLogMs: 60_000,
  /** Ingress processes of one node. */
  ingressProcesses: 64,
  /**
   * Pause before an ingress process that has ended is started again, in milliseconds. It doubles
   * with each end up to the second number, and starts over when a process has run that long.
   */
  ingressRestartMs: 100,
  ingressRestartMsMax: 10_000,
  /** Connections that wait for an ingress process to be ready; a further one is closed. */
  ingressWaitingConnections: 1024,
  /** Connections of the HTTP port for operators. */
  httpConnections: 256,
  /** Pages that follow a node at a time. */
  httpViewers: 100,
  /** Bytes that wait for a page that does not read; beyond that it is cut off. */
  httpViewerBytes: 1 * MiB,
  /** Longest headers of an HTTP request, in bytes. */
  httpHeaderBytes: 16 * KiB,
  /** Time for an HTTP request to arrive, in milliseconds. */
  httpRequestMs: 10_000,
  /**
   * Lines that the log writes of one event within the second number, in milliseconds. Further ones
   * are counted, and the count is a line at the end of that time.
   */
  logRepeats: 5,
  logRepeatMs: 60_000,
  /** Different events whose repeats are counted at a time; the oldest is forgotten first. */
  logEvents: 1_000,
  /** Happenings that a node remembers for operators; older ones are forgotten. */
  timelineEntries: 500,
  /** Longest error text sent over the network, in characters; the rest is cut. */
  errorTextCharacters: 2048,
  /**
   * Caps the entries in one AppendEntries message that a sender may build; it leaves room for the
   * fields around the entries.
   */
  appendBytes: 4 * MiB - 64 * KiB,
  /** Most entries in one AppendEntries message. */
  appendEntries: 16 * KiB,
  /**
   * AppendEntries requests of one stream in progress; beyond that the receiver holds the sender
   * back.
   */
  appendsInFlight: 256,
  /**
   * A leader fills an AppendEntries message up to this many bytes; a single larger entry is sent
   * alone.
   */
  appendBatchBytes: 1 * MiB,
  /** AppendEntries messages with entries that one follower has not answered yet. */
  peerAppendsInFlight: 64,
  /** Bytes of the entries in those messages. One message may exceed it. */
  peerBytesInFlight: 8 * MiB,
  /**
   * Messages queued until a peer reads its AppendEntries stream; the stream is closed above this.
   */
  peerQueueBytes: 16 * MiB,
  /**
   * An attempt to connect to a peer is abandoned and restarted after this time, in milliseconds.
   */
  peerConnectMs: 1_000,
  /**
   * Interval between probes of a peer's connection, and the timeout after which an unanswered probe
   * closes it, in milliseconds.
   */
  peerPingMs: 1_000,
  peerPingTimeoutMs: 2_000,
  /** Timeout for a peer's answer to RequestVote or TimeoutNow, in milliseconds. */
  peerCallMs: 2_000,
  /**
   * Longest time for which a leader waits for an entry that tells its followers of a commit, before
   * it sends a message for the commit alone, in milliseconds.
   */
  commitNoticeMs: 5,
  /**
   * A read at a follower that has not been confirmed and reached by the follower's state within
   * this time, in milliseconds, is passed on to the leader.
   */
  followerReadMs: 500,
  /**
   * A follower that has to apply more entries than this passes linearizable reads on to the leader.
   */
  followerReadEntries: 4096,
  /** Questions of a follower to the leader under way at a time; further reads share the next. */
  followerReadQuestions: 8,
  /** Pause before a new AppendEntries stream to a peer that refused one, in milliseconds. */
  peerPauseMs: 250,
  /**
   * Longest encoded result of a command to an application's machine that another member's caller
   * gets.
   */
  machineResultBytes: 4 * MiB - 64 * KiB,
  /** Approximate size of one part of a Range answer. */
  rangePartBytes: 256 * KiB,
  /**
   * Calls of one Session stream that are in progress or whose answers wait to be sent; above this
   * the server stops reading.
   */
  sessionCallsInFlight: 2048,
  /** Calls, or answers, in one Session message. */
  sessionMessageCalls: 1024,
  /** Approximate size of a Session message; a larger call or answer is sent alone. */
  sessionMessageBytes: 256 * KiB,
  /**
   * Writes of one client that are in progress or wait for answers to earlier ones; further writes
   * queue. A client begins with the first number, and goes up to the second while calls wait and
   * the cluster keeps up.
   */
  clientWritesAtFirst: 128,
  clientWritesInFlight: 1024,
  /** The same limit in bytes; one write of any size always fits. */
  clientWriteBytesInFlight: 16 * MiB,
  /** Reads of one client in progress; further reads queue. */
  clientReadsInFlight: 512,
  /** Queued calls of one client; further calls fail at once with QUEUE_FULL. */
  clientQueueCalls: 128 * KiB,
  /** The same limit in bytes of keys and values. */
  clientQueueBytes: 128 * MiB,
  /** Longest client id in a request id. */
  clientIdBytes: 256,
  /** Longest token that a client sends with its calls, in characters. */
  tokenCharacters: 4 * KiB,
  /** Longest node id or cluster id, in characters. */
  idCharacters: 64,
  /**
   * Longest address of a member, in characters: room for the longest DNS name (253), a port and
   * some more.
   */
  addressCharacters: 320,
  /**
   * Members of a cluster. This many, with the longest ids and addresses, still fit the header of a
   * snapshot.
   */
  members: 1_000,
  /**
   * Highest term that a node accepts from a peer, a file or a caller, or campaigns in (T6). 2^48
   * elections, one each millisecond, take 8,900 years. A number slightly above the bound is still
   * exact, so comparing, adding and printing it is safe. At 2^53 - 1 the next term would no longer
   * be a distinct number.
   */
  termMax: 2 ** 48,
  /**
   * Highest index of a log, whether accepted from outside or reached. It lasts 8.9 years at a
   * million entries a second.
   */
  indexMax: 2 ** 48,
  /**
   * Highest value of all other counters from outside: sizes in bytes, offsets, numbers of things.
   */
  countMax: 2 ** 48,
  /**
   * Highest sequence of a client's request. Nothing counts up from it, so a clock's microseconds
   * may serve as a sequence.
   */
  sequenceMax: 2 ** 52,
  /**
   * Terms by which a message may be ahead of a node; one that is further ahead is refused, see
   * raft/admission.ts. One wild message costs at most a 65,536th of all terms.
   */
  termJump: 2 ** 32,
  /**
   * Terms by which a node that hears from no leader follows a message that is further ahead than
   * termJump. Four such steps keep it in the reach of members that have not seen the message.
   */
  termStep: 2 ** 30,
  /**
   * Entries by which a message may be ahead of the end of a node's log; one that is further ahead
   * is refused. At 100,000 entries a second, a cluster writes as many in four months.
   */
  indexJump: 2 ** 40,
  /**
   * Election timeouts without a leader after which a node listens to a sender that is not a voter
   * by the membership that the node has, but says that it knows a later one; see raft/admission.ts.
   * The first of them counts as over when a node starts.
   */
  strangerTimeouts: 4,
  /**
   * After a peer's protocol violation is logged, further ones are only counted for this time, in
   * milliseconds.
   */
  violationLogMs: 60_000,
  /** A node's status warns of a violation for this long after the last one, in milliseconds. */
  violationShownMs: 3_600_000,
  /**
   * Sessions (clients with request ids) that the cluster remembers; it evicts the least recently
   * used. This and the next seven are part of the log's meaning: another number needs another
   * version of the rules in machine/kv/session_limits.ts.
   */
  sessions: 10_000,
  /**
   * Answers remembered for each session; the oldest is evicted first. The second number is that of
   * the first two versions of the rules.
   */
  sessionAnswers: 1024,
  sessionAnswersBefore: 128,
  /**
   * Longest value that is remembered with an answer; for a longer one the cluster remembers only
   * the version.
   */
  sessionValueBytes: 1 * KiB,
  /**
   * Bytes remembered for all sessions; the least recently used is evicted first. Counted as below.
   */
  sessionBytes: 64 * MiB,
  /**
   * Overhead counted for a session besides its client id, and for an answer besides its encoding.
   */
  sessionOverheadBytes: 64,
  answerOverheadBytes: 32,
  /** Largest encoding of an answer, without its value. */
  answerFieldsBytes: 64,
  /**
   * Comparisons of a transaction, and operations in each of its two lists. These and the next three
   * are part of the log's meaning, too.
   */
  txnComparisons: 128,
  txnOperations: 128,
  /**
   * Keys that the spans of one transaction may hold together: those that it compares, removes or
   * returns. They bound the time for which one entry holds up the others.
   */
  txnKeys: 1_000,
  /** Bytes of the keys and values that one transaction looks at or replaces. */
  txnReadBytes: 16 * MiB,
  /** Bytes of the keys and values that one transaction returns. */
  txnResultBytes: 2 * MiB,
  /**
   * Bytes in which a node notes the effects of entries, for watches that begin in the past; the
   * oldest are forgotten first.
   */
  effectBytes: 64 * MiB,
  /** Bytes of the records before their changes that a node keeps for watches that ask for them. */
  watchRecordBytes: 16 * MiB,
  /** Watches of one node; a further one is refused with BUSY. */
  watches: 20_000,
  /**
   * Entries that watches are told of in one step, and their bytes. A single larger entry is alone.
   */
  watchBatchEntries: 256,
  watchBatchBytes: 1 * MiB,
  /** Approximate size of an answer of a watch. The changes of one index are never split. */
  watchAnswerBytes: 256 * KiB,
  /**
   * Bytes of one watch's answers that the network has not taken; above this, the watch is read from
   * the history when it reads on.
   */
  watchBufferBytes: 32 * KiB,
  /** A watch that takes nothing for this long while there is something to take, in milliseconds. */
  watchStallMs: 30_000,
  /** Time between two answers of a watch without changes, in milliseconds: default and least. */
  watchProgressMs: 60_000,
  watchProgressMsLeast: 100,
  /**
   * Time for which watches are served in one go, and the pause after that, in milliseconds: they
   * take a quarter of the thread at most.
   */
  watchSliceMs: 2,
  watchPauseMs: 6,
  /**
   * Shortest and longest time to live of a lease, in milliseconds. These and the next five are part
   * of the log's meaning, too.
   */
  leaseTtlMs: 1_000,
  leaseTtlMsMax: 7 * 24 * 3_600_000,
  /** Leases in all. */
  leases: 1_000_000,
  /** Keys that are attached to one lease: its end removes them all at one index. */
  leaseKeys: 10_000,
  /** Leases that one request, and one entry of the log, keeps alive. */
  keepAliveLeases: 1_000,
  /**
   * Leases that one entry ends, and keys that it removes with them. A lease with more keys ends
   * alone.
   */
  expiryLeases: 500,
  expiryKeys: 1_000,
  /** Interval at which a leader looks for leases whose time is over, in milliseconds. */
  leaseLookMs: 200,
  /** Leases that a node reads at a time, as a new leader and for a list. */
  leaseSlice: 1_000,
  /**
   * Pause between two such slices, or two entries that end leases, in milliseconds: other work gets
   * its turn.
   */
  leasePauseMs: 5,
  /** Requests of one stream of keep-alives in progress; beyond that the node stops reading. */
  keepAlivesInFlight: 16,
  /** Timeout for a leader's answer to a keep-alive that was passed on, in milliseconds. */
  keepAliveForwardMs: 3_000,
  /** Bytes of uncommitted proposals; a leader refuses more. */
  uncommittedBytes: 64 * MiB,
  /**
   * Entries handed to the state machine at a time, so that applying never holds up the event loop
   * for long: an entry that must be read from disk first may take 0.1 ms.
   */
  applyEntries: 256,
  /** The same limit in bytes. */
  applyBytes: 256 * KiB,
  /**
   * Bytes of recent entries, and entries above the applied index, that the core keeps in memory
   * before it relies on the log on disk.
   */
  windowBytes: 8 * MiB,
  /** Payload chunk of a snapshot file. */
  snapshotChunkBytes: 256 * KiB,
  /** Largest payload chunk that a reader accepts. */
  snapshotChunkBytesMax: 1 * MiB,
  /** Size of the pieces in which a state machine hands out its snapshot payload. */
  payloadPieceBytes: 64 * KiB,
  /** Payload bytes written to a file or a restored state before the event loop gets its turn. */
  payloadSliceBytes: 256 * KiB,
  /**
   * Buffers in which the state's worker thread hands out or receives a snapshot; when all are in
   * use, the sender waits.
   */
  workerBuffers: 4,
  /** Concurrent reads of the state on disk (ranges, snapshots being written); more are refused. */
  stateReaders: 1024,
  /**
   * Openings of a state on disk after which it is rebuilt, when each of them ended soon and without
   * closing it: damage in LMDB's file can end the process.
   */
  stateOpenings: 2,
  /**
   * An opening of the state that lasts this long, in milliseconds, no longer counts towards a
   * rebuild.
   */
  stateOpeningMs: 30_000,
  /** Largest header of a snapshot file. */
  snapshotHeaderBytes: 1 * MiB,
  /** Bytes of one write to a snapshot file, and of one read from it. */
  snapshotWriteBytes: 512 * KiB,
  /**
   * Bytes written to a snapshot file between two syncs. A sync of the log waits behind one of
   * these, so they are short.
   */
  snapshotSyncBytes: 2 * MiB,
  /** Chunk of a snapshot sent to a follower, unless the caller sets another size. */
  installChunkBytes: 512 * KiB,
  /** Largest chunk of an InstallSnapshot or DownloadSnapshot stream. */
  transferChunkBytes: 1 * MiB,
  /**
   * A node receives a snapshot only if this many bytes stay free on the disk afterwards, so that
   * the log can continue.
   */
  receiveReserveBytes: 16 * MiB,
  /**
   * Interval at which the holder of a data directory's lock shows that it lives, in milliseconds.
   */
  lockBeatMs: 1_000,
  /**
   * A lock holder that has shown no beat for this long, in milliseconds, counts as dead. This
   * decides only when nothing else tells a dead process from a living one: the holder ran on
   * another machine, or on this one before it was rebooted.
   */
  lockStandstillMs: 15_000,
  /** A snapshot transfer without progress for this long, in milliseconds, is abandoned. */
  transferIdleMs: 30_000,
  /** Lowest bandwidth limit that may be set for snapshot transfers, in bytes per second. */
  transferBandwidthLeast: 1 * KiB,
  /** Snapshots that a node sends at a time; further followers wait. */
  outgoingTransfers: 2,
  /**
   * After an interrupted transfer, the sender retains the snapshot and the log above it for this
   * long, in milliseconds, so that the next transfer can resume; at most pinnedLogBytes of log.
   */
  transferResumeMs: 60_000,
  /**
   * Attempts at a comparison of members' states. Each restarts at a newer index, because a member
   * has advanced.
   */
  verifyAttempts: 5,
  /**
   * Timeout for a member's report of its position, and for a member that makes no progress, in
   * milliseconds.
   */
  verifyLookMs: 2_000,
  verifyIdleMs: 10_000,
  /**
   * Snapshots retained on disk. The log reaches back to the second newest, which together with the
   * log replaces a damaged newest one.
   */
  snapshotsKept: 2,
  /** Memory for pages of the store's tables. */
  storeCacheBytes: 16 * MiB,
  /** Tables of the store that are open at a time. */
  storeOpenFiles: 256,
  /** Bytes of a span that a batch of entries loads before it reads them. */
  storePrepareBytes: 4 * MiB,
  /**
   * Bytes a second that a step of the store may write in any case; it may write six times as many
   * as come in.
   */
  storeStepRateBytes: 32 * MiB,
  /** Time without writes after which the leader asks for a flush point of the store, in ms. */
  storeIdleMs: 10_000,
  /** Interval at which a leader looks whether the store wants one, in milliseconds. */
  storeLookMs: 1_000,
  /** Size of a segment of the log. */
  segmentBytes: 64 * MiB,
  /**
   * Step by which a segment is filled with zeros ahead of its records: overwriting syncs faster
   * than growing a file.
   */
  segmentFillBytes: 256 * KiB,
  /**
   * Zeros kept behind the records, so that a full disk still accepts a vote or the records that
   * trim the log.
   */
  segmentReserveBytes: 4 * KiB,
  /** Log retained behind a snapshot for slow followers, unless the caller sets another size. */
  trailingLogBytes: 64 * MiB,
  /**
   * Log retained at most for followers that are receiving a snapshot: they will need the entries
   * written meanwhile.
   */
  pinnedLogBytes: 1024 * MiB,
  /**
   * A follower that lacks more bytes of log than this gets the newest snapshot instead, even when
   * the log still has every entry that it lacks, if the snapshot is the smaller of the two.
   */
  snapshotInsteadBytes: 4 * MiB,
  /**
   * Entries applied since the last snapshot after which a node takes one automatically, unless the
   * caller sets another number.
   */
  snapshotEntries: 100_000,
  /** The same limit in bytes of log. */
  snapshotLogBytes: 64 * MiB,
  /**
   * Neither limit counts until the log since the last snapshot is this many times as large as that
   * snapshot.
   */
  snapshotLogRatio: 1,
  /** Delay for which a leader lets its followers take a snapshot first, in milliseconds. */
  snapshotPatienceMs: 5_000,
  /**
   * Delay before a failed snapshot is retried, in milliseconds; it doubles with each failure up to
   * the second number.
   */
  snapshotRetryMs: 1_000,
  snapshotRetryMsMax: 60_000,
  /**
   * The node warns an operator of a member that has not answered for this many milliseconds and
   * lacks this many entries.
   */
  silentMs: 60_000,
  silentEntries: 10_000,
  /** Health is judged by the longest durations within this time, in milliseconds. */
  healthWindowMs: 60_000,
  /**
   * A sync of the log, a pause of the process or an answer counts as slow from half an election
   * timeout on, but not below this, in milliseconds.
   */
  slowMs: 500,
  /**
   * After a stuck write of the log, a node does not campaign for this many election timeouts,
   * unless a quick write ends that.
   */
  stuckTimeouts: 5,
  /** Term ranges in an answer of GetLogInfo. */
  termRanges: 1000,
  /** Longest line of the gateway's input. */
  gatewayLineBytes: 64 * MiB,
  /** Nesting of objects and lists in a value of the gateway's input. */
  gatewayJsonDepth: 1000,
  /**
   * Clients of requests with `client_id` that a gateway knows; it treats further ones as clients
   * that the store may have forgotten.
   */
  gatewayClients: 100_000,
  /** Entries that one seed_state of the gateway may write to a log. */
  gatewaySeedEntries: 10_000_000,
  /** Largest access file. */
  accessFileBytes: 4 * MiB,
  /** Key prefixes of one caller of an access file: each key of a call is compared with them. */
  accessPrefixes: 100,
  /** Longest name of a caller of an access file. */
  callerNameCharacters: 64,
  /** Interval at which a node looks whether its access file has changed, in milliseconds. */
  accessLookMs: 500,
  /** Different refusals that the audit writes in one window; further ones are counted. */
  auditRefusals: 100,
  /** Window in which equal refusals become one line of the audit, in milliseconds. */
  auditWindowMs: 10_000,
} as const);

assert(limits.keyBytes + limits.valueBytes + 4 * KiB <= limits.entryBytes, "a largest put fits an entry");
assert(limits.entryBytes + 64 * KiB <= limits.appendBytes, "a largest entry fits an AppendEntries message");
assert(limits.appendBatchBytes <= limits.appendBytes, "what a leader gathers fits an AppendEntries message");
assert(
  2 * limits.messageBytes <= limits.connectionAnswerBytes && limits.connectionAnswerBytes <= limits.answerBytes,
  "a connection's answers fit what may wait, and a largest one leaves room for another",
);
assert(
  limits.messageBytes <= limits.smallRequestReserveBytes &&
    limits.smallRequestReserveBytes <= limits.requestBytes / 4 &&
    limits.uncommittedBytes <= limits.requestBytes,
  "what a leader takes fits what it may receive, beside the reserve",
);
assert(
  limits.peerBytesInFlight + limits.appendBytes < limits.peerRequestBytes,
  "a leader's messages fit at a follower",
);
assert(limits.peerConnectionsPerMember + limits.peerConnectionsSpare <= limits.peerConnections, "peers have that room");
assert(limits.watches + limits.streamsPerConnection <= limits.streams, "watches leave room for calls");
assert(limits.clientWriteBytesInFlight <= limits.sessionStreamBytes, "a client's writes fit its stream, in bytes too");
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
  limits.valueBytes <= limits.txnResultBytes && limits.txnResultBytes + 256 * KiB <= limits.messageBytes,
  "a transaction can read a largest value, and its largest answer fits a gRPC message",
);
assert(limits.valueBytes + limits.keyBytes + limits.entryBytes <= limits.txnReadBytes, "it can replace one, too");
assert(
  limits.txnOperations * 8 <= limits.sessionValueBytes,
  "the answer to a transaction is remembered, but for the keys and values that it read",
);
assert(
  limits.clientWritesAtFirst <= Math.min(limits.sessionAnswersBefore, limits.clientWritesInFlight) &&
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
assert(limits.termStep * 4 <= limits.termJump, "a node that was led astray stays in reach");
assert(
  limits.clientQueueBytes >= limits.messageBytes && limits.clientQueueCalls >= limits.sessionCallsInFlight,
  "a call of any size may wait, and as many as are under way",
);
