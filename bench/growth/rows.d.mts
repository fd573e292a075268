export type Table = "members" | "values" | "keys" | "sustain";

export interface Row {
  readonly table: Table;
  readonly name: string;
  readonly members?: number;
  readonly valueBytes?: number;
  readonly keys?: number;
}

export interface Load {
  readonly work: string;
  readonly driver: "load" | "unary" | "cairn";
  readonly op: "put" | "get";
  readonly route: "leader" | "all";
  readonly callers: number;
  readonly valueBytes: number;
}

export const KEYS_MAX: number;
export const TABLES: readonly Table[];
export function rowsOf(options: { readonly keysMax: number; readonly only?: readonly string[] }): Row[];
export function keysFor(valueBytes: number): number;
export function callersFor(valueBytes: number, limits: { readonly clientWriteBytesInFlight: number }): number;
export function loadsOf(unary: "load" | "unary", valueBytes: number, callers: number): Load[];
