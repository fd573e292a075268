import type { EffectNotes } from "./effects/effect_notes.js";
import type { LeaseStore } from "./leases/lease_store.js";
import type { RecordStore } from "./record_store.js";

/** The state that commands change, and the notes about what is done to it. */
export interface NotedState {
  readonly records: RecordStore;
  readonly leases: LeaseStore;
  readonly notes: EffectNotes;
}
