import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { type HttpPage, send } from "./http_server.js";

/** The files of the page by path, with their types. `build.mjs` makes them. */
const FILES: Readonly<Record<string, readonly [file: string, contentType: string]>> = {
  "/": ["index.html", "text/html; charset=utf-8"],
  "/page.js": ["page.js", "text/javascript; charset=utf-8"],
  "/page.css": ["page.css", "text/css; charset=utf-8"],
};

/** Returns the page's files as pages of the server; each is read when it is first asked for. */
export function pageFiles(): [string, HttpPage][] {
  return Object.entries(FILES).map(([path, [file, contentType]]) => {
    let body: Promise<Buffer> | undefined;
    return [
      path,
      async (_request, response) => {
        body ??= readFile(join(folder(), file));
        // A file that could not be read once is tried again by the next request.
        const bytes = await body.catch((error: unknown) => {
          body = undefined;
          throw error;
        });
        send(response, 200, contentType, bytes);
      },
    ];
  });
}

/** The package refers to itself by name: its code may have been bundled, and lie elsewhere. */
function folder(): string {
  return join(dirname(createRequire(import.meta.url).resolve("cairn-raft/package.json")), "dist/page");
}
