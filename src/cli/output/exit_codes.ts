/** Exit codes of the command line. */
export const exitCodes = {
  ok: 0,
  failed: 1,
  usage: 2,
  /** The command was carried out, and the answer is no. */
  no: 3,
  /** EX_SOFTWARE of sysexits. */
  fatal: 70,
  /** SIGINT has interrupted the command: the code that shells report. */
  interrupted: 130,
} as const;
