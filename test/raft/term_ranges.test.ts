import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { TermRanges } from "../../src/raft/term_ranges.js";

function rangesOf(boundary: { index: number; term: number }, terms: readonly number[]): TermRanges {
  const ranges = new TermRanges(boundary);
  terms.forEach((term, at) => {
    ranges.append(boundary.index + 1 + at, term);
  });
  return ranges;
}

describe("the term ranges of a log", () => {
  test("are one for each term, however long the log is", () => {
    const ranges = rangesOf({ index: 0, term: 0 }, [1, 1, 1, 2, 2, 5]);
    expect(ranges.ranges).toEqual([
      { firstIndex: 0, term: 0 },
      { firstIndex: 1, term: 1 },
      { firstIndex: 4, term: 2 },
      { firstIndex: 6, term: 5 },
    ]);
    expect(ranges.last).toEqual({ index: 6, term: 5 });
  });

  test("end at the boundary when the log is empty", () => {
    const ranges = new TermRanges({ index: 7, term: 3 });
    expect(ranges.boundary).toEqual({ index: 7, term: 3 });
    expect(ranges.last).toEqual({ index: 7, term: 3 });
    expect(ranges.termAt(7)).toBe(3);
    expect(ranges.termAt(6)).toBeUndefined();
    expect(ranges.termAt(8)).toBeUndefined();
  });

  test("answer for the term at the boundary after trimming, and for nothing below it (R6)", () => {
    const ranges = rangesOf({ index: 0, term: 0 }, [1, 1, 2, 2]);
    ranges.trimTo(3);
    expect(ranges.boundary).toEqual({ index: 3, term: 2 });
    expect(ranges.termAt(3)).toBe(2);
    expect(ranges.termAt(2)).toBeUndefined();
    expect(ranges.last).toEqual({ index: 4, term: 2 });
    ranges.trimTo(4);
    expect(ranges.boundary).toEqual({ index: 4, term: 2 });
    expect(ranges.last).toEqual({ index: 4, term: 2 });
  });

  test("look for the first index of a term only above the boundary", () => {
    const ranges = rangesOf({ index: 2, term: 1 }, [1, 1, 2]);
    expect(ranges.firstIndexOfTermAt(4)).toBe(3);
    expect(ranges.firstIndexOfTermAt(5)).toBe(5);
    expect(() => ranges.firstIndexOfTermAt(2)).toThrow("the index is in the log");
    expect(() => ranges.firstIndexOfTermAt(6)).toThrow("the index is in the log");
  });

  test("refuse entries out of order, terms that fall, and cuts outside the log", () => {
    const ranges = rangesOf({ index: 5, term: 2 }, [2, 3]);
    expect(() => ranges.append(9, 3)).toThrow("entries are consecutive");
    expect(() => ranges.append(8, 2)).toThrow("terms never fall");
    expect(() => ranges.truncateAfter(4)).toThrow("above the boundary");
    expect(() => ranges.trimTo(4)).toThrow("trimmed at one of its entries");
    expect(() => ranges.trimTo(8)).toThrow("trimmed at one of its entries");
  });

  test("extend by many entries at once, and not backwards", () => {
    const ranges = new TermRanges({ index: 5, term: 2 });
    ranges.extendTo(3, 1);
    ranges.extendTo(9, 4);
    expect(ranges.last).toEqual({ index: 9, term: 4 });
    expect(ranges.termAt(6)).toBe(4);
    ranges.reset({ index: 20, term: 6 });
    expect(ranges.ranges).toEqual([{ firstIndex: 20, term: 6 }]);
    expect(ranges.last).toEqual({ index: 20, term: 6 });
  });
});

/** A change to a log, and its numbers, to be taken modulo what is possible. */
const change = fc.record({
  kind: fc.constantFrom("append", "extend", "truncate", "trim", "reset"),
  amount: fc.nat(6),
  rise: fc.nat(2),
});

test("the term ranges agree with a plain list of terms, whatever is done", () => {
  fc.assert(
    fc.property(fc.nat(3), fc.array(change, { maxLength: 40 }), (start, changes) => {
      const boundaryTerm = start === 0 ? 0 : 1;
      const ranges = new TermRanges({ index: start, term: boundaryTerm });
      // The list's first element stands for the boundary.
      let [base, terms] = [start, [boundaryTerm]];
      for (const { kind, amount, rise } of changes) {
        const last = base + terms.length - 1;
        const at = base + (amount % terms.length);
        const term = terms.at(-1)! + rise;
        if (kind === "append") {
          ranges.append(last + 1, term);
          terms.push(term);
        } else if (kind === "extend") {
          ranges.extendTo(last + amount, term);
          terms.push(...Array<number>(amount).fill(term));
        } else if (kind === "truncate") {
          ranges.truncateAfter(at);
          terms.length = at - base + 1;
        } else if (kind === "trim") {
          ranges.trimTo(at);
          terms.splice(0, at - base);
          base = at;
        } else {
          ranges.reset({ index: last + amount, term });
          [base, terms] = [last + amount, [term]];
        }
        const end = base + terms.length - 1;
        expect(ranges.boundary).toEqual({ index: base, term: terms[0] });
        expect(ranges.last).toEqual({ index: end, term: terms.at(-1) });
        for (let index = Math.max(0, base - 2); index <= end + 2; index++) {
          expect(ranges.termAt(index)).toBe(index < base ? undefined : terms[index - base]);
          if (index <= base || index > end) continue;
          const first = base + terms.indexOf(terms[index - base]!);
          expect(ranges.firstIndexOfTermAt(index)).toBe(Math.max(first, base + 1));
        }
      }
    }),
    { numRuns: 300 },
  );
});
