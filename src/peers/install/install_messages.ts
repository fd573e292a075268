// Messages of a snapshot transfer, independent of their encoding.

/** Message of a snapshot's sender (Raft figure 13): one offer, then chunks. */
export type InstallMessage =
  | ({ readonly kind: "offer" } & InstallOffer)
  | {
      readonly kind: "chunk";
      /** The offer's leaderTerm, so that the receiver recognises a chunk of a deposed leader. */
      readonly leaderTerm: number;
      /** Offset of `data` in the file. */
      readonly offset: number;
      /** The caller must not change it before `send` resolves. */
      readonly data: Uint8Array;
      /** Bytes of the file in a compressed chunk. Absent when `data` is not compressed. */
      readonly fileBytes?: number | undefined;
    };

/** Compression of chunks. Each chunk is compressed on its own. */
export type SnapshotCompression = "deflate";

/** A snapshot that the sender can send. */
export interface InstallChoice {
  readonly index: number;
  readonly term: number;
  readonly fileBytes: number;
  /** SHA-256 of the file up to its trailer: 32 bytes. */
  readonly sha256: Uint8Array;
}

/** Offer of a snapshot by a leader. */
export interface InstallOffer extends InstallChoice {
  readonly from: string;
  /** The leader's term; `term` is that of the snapshot's last entry. */
  readonly leaderTerm: number;
  /** Index of the newest membership in the leader's log; see RequestBase. */
  readonly membershipIndex?: number | undefined;
  /** Network address that the offer came from, for reports. */
  readonly address?: string | undefined;
  /** Other snapshots that would do as well, newest first. */
  readonly others?: readonly InstallChoice[] | undefined;
  /** The sender compresses chunks this way if the receiver accepts it. */
  readonly compression?: SnapshotCompression | undefined;
}

/** Reason why an offer is refused. */
export interface OfferRefusal {
  readonly reason: "stale_term" | "already_committed" | "busy" | "no_space" | "cancelled";
  readonly detail: string;
}

/** Message of the receiver: accepted or refused, then progress now and then, then installed. */
export type InstallReply =
  /**
   * `offset`: first byte to send. `index`: the one of `others` to send instead; absent for the
   * snapshot that was offered.
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
      /** True position of the receiver. */
      readonly term: number;
      readonly commitIndex: number;
      readonly lastLogIndex: number;
    } & OfferRefusal)
  /**
   * The receiver holds `receivedBytes` of the file, checked. Repeated while the whole file is being
   * installed, and before `accepted` while earlier bytes are being checked.
   */
  | { readonly kind: "progress"; readonly receivedBytes: number }
  | { readonly kind: "installed"; readonly term: number; readonly matchIndex: number; readonly applied: boolean };
