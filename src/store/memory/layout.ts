// Layout of an arena. A place is a number of 8-byte units from its start; place 0 is none.
//
//   key      u32 place of its newest record; u32 hash; u32 length; bytes
//   record   u32 place of the key's older record; u32 place of the record written before it;
//            u32 place of its key; u32 length of the value; u8 kind; u8 tag; 6 bytes unused;
//            f64 version; f64 first version; value
//
// A key precedes its first record. Keys and records begin at whole units.

/** Words from a key's place. */
export const KEY_NEWEST_WORD = 0;
export const KEY_HASH_WORD = 1;
export const KEY_LENGTH_WORD = 2;
export const KEY_HEAD_BYTES = 12;

/** Words from a record's place. */
export const OLDER_WORD = 0;
export const BEFORE_WORD = 1;
export const KEY_WORD = 2;
export const VALUE_LENGTH_WORD = 3;
export const KIND_WORD = 4;
/** Doubles, which are units, from a record's place. */
export const VERSION_UNIT = 3;
export const FIRST_UNIT = 4;
export const RECORD_UNITS = 5;
