/** Settings of esbuild for tests that put the code and themselves into one file. */
export const bundleSettings = {
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node20",
  sourcemap: "inline",
  // Packages of the older module format call `require`.
  banner: {
    js: 'import { createRequire as requireFor } from "node:module"; const require = requireFor(import.meta.url);',
  },
  logLevel: "error",
};
