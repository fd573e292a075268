/** Message of a snapshot's sender (Raft figure 13): one offer, then chunks. */
export type InstallMessage =
  | ({ readonly kind: "offer" } & InstallOffer)
  | {
      readonly kind: "chunk";
      /** The offer's leaderTerm, so that a chunk of a deposed leader is recognised. */
      readonly leaderTerm: number;
      /** Place of `data` in the file. */
      readonly offset: number;
      /** Must not be changed before `send` resolves. */
      readonly data: Uint8Array;
      /**
       * Of a compressed chunk: how many bytes of the file it holds. Left out: `data` is what the
       * file holds.
       */
      readonly fileBytes?: number | undefined;
    };

/** Compression of chunks. Each chunk is compressed on its own. */
export type SnapshotCompression = "deflate";

/** A snapshot that can be sent. */
export interface InstallChoice {
  readonly index: number;
  readonly term: number;
  readonly fileBytes: number;
  /** SHA-256 of the file up to its trailer: 32 bytes. */
  readonly sha256: Uint8Array;
}

/** A leader's announcement of a snapshot. */
export interface InstallOffer extends InstallChoice {
  readonly from: string;
  /** The leader's term; `term` is that of the snapshot's last entry. */
  readonly leaderTerm: number;
  /** Others that would do as well, newest first. */
  readonly others?: readonly InstallChoice[] | undefined;
  /** Chunks would be compressed if the receiver takes them so. */
  readonly compression?: SnapshotCompression | undefined;
}

/** Why an offer is refused. */
export interface OfferRefusal {
  readonly reason: "stale_term" | "already_committed" | "busy" | "no_space" | "cancelled";
  readonly detail: string;
}

/** Message of the receiver: accepted or refused, then progress now and then, then installed. */
export type InstallReply =
  /**
   * `offset`: where to begin. `index`: of the one of `others` that is to be sent instead; left out:
   * the one that was offered.
   */
  | {
      readonly kind: "accepted";
      readonly offset: number;
      readonly index?: number | undefined;
      /** Compression that the receiver accepts for chunks. */
      readonly compression?: SnapshotCompression | undefined;
    }
  | ({
      readonly kind: "refused";
      /** The receiver's true position. */
      readonly term: number;
      readonly commitIndex: number;
      readonly lastLogIndex: number;
    } & OfferRefusal)
  /**
   * `receivedBytes` of the file are there and checked. Said again and again while the whole file is
   * being installed, and before `accepted` while what was received earlier is being checked.
   */
  | { readonly kind: "progress"; readonly receivedBytes: number }
  | { readonly kind: "installed"; readonly term: number; readonly matchIndex: number; readonly applied: boolean };
