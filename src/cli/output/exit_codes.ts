/** Exit codes of the command line. */
export const exitCodes = {
  ok: 0,
  failed: 1,
  usage: 2,
  /** It was carried out, and the answer is no. */
  no: 3,
  /** EX_SOFTWARE of sysexits. */
  fatal: 70,
  /** SIGINT has ended what was under way, as shells report it. */
  interrupted: 130,
} as const;
