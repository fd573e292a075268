// Order of keys: by their bytes.

/** Compares two spans of bytes: negative, 0 or positive. A prefix comes before what it begins. */
export function compareSpans(
  a: Uint8Array,
  aStart: number,
  aLength: number,
  b: Uint8Array,
  bStart: number,
  bLength: number,
): number {
  const shared = aLength < bLength ? aLength : bLength;
  for (let at = 0; at < shared; at += 1) {
    const difference = a[aStart + at]! - b[bStart + at]!;
    if (difference !== 0) return difference;
  }
  return aLength - bLength;
}
