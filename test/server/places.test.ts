import { expect, test } from "vitest";
import { Places } from "../../src/server/places.js";
import { failure } from "../support/conditions.js";

async function* endless() {
  for (;;) yield 1;
}

test.each(["sessionStreams", "keepAliveStreams", "downloads"] as const)(
  "a stream beyond %s is refused, until another one has left or failed",
  async (name) => {
    const places = new Places(name, "streams", 2);
    const [first, second] = [places.serve(endless), places.serve(endless)];
    expect(await first.next()).toEqual({ done: false, value: 1 });
    await second.next();
    await failure("BUSY", places.serve(endless).next(), `this node serves 2 streams (limit ${name})`);
    await first.return();
    const failing = places.serve(() => {
      throw new Error("broken");
    });
    await expect(failing.next()).rejects.toThrow("broken");
    expect(await places.serve(endless).next()).toEqual({ done: false, value: 1 });
    await failure("BUSY", places.serve(endless).next());
  },
);
