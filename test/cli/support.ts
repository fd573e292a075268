import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";

/** A directory that is removed when the test ends. */
export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "cairn-test-cli-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

export const INIT = '{"src":"c0","dest":"n1","body":{"type":"init","msg_id":1,"node_id":"n1","node_ids":["n1"]}}';

/** A request to n1, as a line. */
export function request(type: string, fields: object = {}): string {
  return JSON.stringify({ src: "c1", dest: "n1", body: { type, msg_id: 2, ...fields } });
}

/** The body of a reply. */
export function bodyOf(line: string): Record<string, unknown> {
  return (JSON.parse(line) as { body: Record<string, unknown> }).body;
}
