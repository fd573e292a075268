import { expect, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import { SessionLoad } from "../../src/server/kv/session_load.js";
import { nextTurn } from "../support/conditions.js";

test("streams take their next message in turn while a node has too many bytes of calls, one a turn of the event loop", async () => {
  const load = new SessionLoad();
  expect(load.turn()).toBeUndefined();
  load.add(limits.sessionStreamsBytes + 1);
  const taken: string[] = [];
  for (const name of ["first", "second", "third"]) {
    void load.turn()!.then(() => {
      taken.push(name);
      // What the second takes fills the room again.
      if (name === "second") load.add(2);
    });
  }
  await nextTurn();
  await nextTurn();
  expect(taken).toEqual([]);
  load.add(-2);
  for (let turns = 0; turns < 10; turns++) await nextTurn();
  expect(taken).toEqual(["first", "second"]);
  expect(load.turn(), "a later stream waits behind those that wait").toBeInstanceOf(Promise);
  load.add(-limits.sessionStreamsBytes);
  for (let turns = 0; turns < 10; turns++) await nextTurn();
  expect(taken).toEqual(["first", "second", "third"]);
});
