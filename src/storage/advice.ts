/**
 * The end of every message that refuses to start on a member's damaged or incomplete directory:
 * what is safe, and what is not. An old copy of the directory is never safe: it has forgotten votes
 * and entries that other members count on.
 */
export const DAMAGED_MEMBER =
  "Never put back an old copy of it: that would forget votes and writes which the other members count on. While a majority of the " +
  "other members runs: move the whole data directory away, keep it, and start the node again with the command line of its first start; " +
  "it comes back as a new member. Else see docs/operations.md, 'A lost majority'.";
