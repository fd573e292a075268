export const INIT = '{"src":"c0","dest":"n1","body":{"type":"init","msg_id":1,"node_id":"n1","node_ids":["n1"]}}';

/** A request to n1, as a line. */
export function request(type: string, fields: object = {}): string {
  return JSON.stringify({ src: "c1", dest: "n1", body: { type, msg_id: 2, ...fields } });
}

/** The body of a reply. */
export function bodyOf(line: string): Record<string, unknown> {
  return (JSON.parse(line) as { body: Record<string, unknown> }).body;
}
