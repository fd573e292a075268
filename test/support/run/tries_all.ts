/**
 * Whether this run is the long one, `npm run test:all`. `npm test`, which `.ci/run` does, must stay short: of tests with many like cases it
 * takes some, and says which.
 */
export const triesAll = process.env.CAIRN_TESTS === "all";

/** Returns how often a property test tries its property: `usual` times, and `all` times in the long run. */
export function runs(usual: number, all: number): number {
  return triesAll ? all : usual;
}
