export interface Cell {
  readonly driver: "load" | "cairn" | "etcd3";
  readonly op: "put" | "get" | "stale" | "mixed";
  readonly route: "leader" | "all";
  readonly callers: number;
  readonly valueBytes: number;
  readonly rate?: number;
}

export interface Row {
  readonly kind: "load" | "life";
  readonly name: string;
  readonly title: string;
  /** Of a load row. */
  readonly group?: string;
  readonly etcd?: Cell;
  readonly cairn?: Cell;
}

export interface RowOptions {
  readonly quick?: boolean;
  readonly callers: readonly number[];
  readonly values: readonly number[];
  readonly rates: readonly number[];
  readonly only?: readonly string[];
}

export function rowsOf(options: RowOptions): Row[];
export function cellKey(cell: Cell): string;
