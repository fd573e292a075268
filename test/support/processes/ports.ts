import { createServer } from "node:net";
import { freePorts } from "./process_cluster.js";

/** A port of loopback that is free now, as are the `more` ports behind it. For a program that takes ports by number. */
export async function freePortRange(more: number): Promise<number> {
  for (;;) {
    const [port] = await freePorts(1);
    const others = Array.from({ length: more }, (_, at) => isFree(port! + 1 + at));
    if ((await Promise.all(others)).every(Boolean)) return port!;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
