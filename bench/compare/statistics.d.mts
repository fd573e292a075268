/** Figures of one measurement, by name. */
export type Figures = Readonly<Record<string, number | string>>;

export interface Pair {
  readonly etcd?: Figures | undefined;
  readonly cairn?: Figures | undefined;
}

export interface Summary {
  readonly etcd: Readonly<Record<string, number>> | undefined;
  readonly cairn: Readonly<Record<string, number>> | undefined;
  readonly ratio: Readonly<Record<string, number>>;
}

export function summarize(rounds: readonly Pair[]): Summary;
