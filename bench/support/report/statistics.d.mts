/** Figures of one measurement, by name. */
export type Figures = Readonly<Record<string, unknown>>;

export function median(numbers: readonly number[]): number;
export function medians(records: readonly Figures[]): Record<string, number>;
export function numbersOf(records: readonly Figures[]): string[];
