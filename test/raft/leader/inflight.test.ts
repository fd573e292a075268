import { expect, test } from "vitest";
import { Inflight } from "../../../src/raft/leader/inflight.js";

const facts = ({ messages, bytes, isEmpty, isFull }: Inflight) => ({ messages, bytes, isEmpty, isFull });

test("the in-flight window is empty at first", () => {
  expect(facts(new Inflight(2, 100))).toEqual({ messages: 0, bytes: 0, isEmpty: true, isFull: false });
});

test("the in-flight window is full after its number of messages", () => {
  const inflight = new Inflight(2, 100);
  inflight.add(1, 10);
  expect(inflight.isFull).toBe(false);
  inflight.add(2, 10);
  expect(facts(inflight)).toEqual({ messages: 2, bytes: 20, isEmpty: false, isFull: true });
});

test("the in-flight window is full after its number of bytes", () => {
  const inflight = new Inflight(10, 100);
  inflight.add(1, 99);
  expect(inflight.isFull).toBe(false);
  inflight.add(2, 1);
  expect(inflight.isFull).toBe(true);
});

test("one message may exceed the limit of bytes, and no other is sent with it", () => {
  const inflight = new Inflight(10, 100);
  expect(inflight.isFull).toBe(false);
  inflight.add(1, 5000);
  expect(facts(inflight)).toEqual({ messages: 1, bytes: 5000, isEmpty: false, isFull: true });
});

test("an answer makes room for its own message and all before it", () => {
  const inflight = new Inflight(3, 100);
  inflight.add(2, 10);
  inflight.add(5, 20);
  inflight.add(6, 40);
  inflight.answered(5);
  expect(facts(inflight)).toEqual({ messages: 1, bytes: 40, isEmpty: false, isFull: false });
});

test("the answer to a later heartbeat makes room for the messages before it", () => {
  const inflight = new Inflight(1, 100);
  inflight.add(2, 10);
  inflight.answered(3);
  expect(inflight.isEmpty).toBe(true);
});

test("an answer to an older message makes no room", () => {
  const inflight = new Inflight(1, 100);
  inflight.add(7, 10);
  inflight.answered(6);
  expect(facts(inflight)).toEqual({ messages: 1, bytes: 10, isEmpty: false, isFull: true });
});

test("the in-flight window can be emptied, and its messages no longer count", () => {
  const inflight = new Inflight(1, 100);
  inflight.add(1, 10);
  inflight.clear();
  expect(facts(inflight)).toEqual({ messages: 0, bytes: 0, isEmpty: true, isFull: false });
});
