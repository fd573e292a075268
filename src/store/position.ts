/** A place in the log. */
export interface LogPosition {
  readonly index: number;
  readonly term: number;
}
