import type { CallContext } from "../../rpc/call_context.js";
import type { CallerCertificate } from "../../rpc/security/caller_certificate.js";

// Carries the client of a call from an ingress process to its node.

/** The connection of a client to an ingress process. */
export interface IngressClient {
  /** Address and port of the client. */
  readonly address: string;
  readonly certificate: CallerCertificate | undefined;
}

/** Connections that are kept in memory, so that most calls find theirs. */
const KEPT = 10_000;

interface SentClient {
  readonly certificate: CallerCertificate | undefined;
  readonly text: string;
}

const sent = new Map<string, SentClient>();
const received = new Map<string, IngressClient>();

/** Returns the client of a call as text, which fits metadata. */
export function clientText({ peer, certificate }: Pick<CallContext, "peer" | "certificate">): string {
  const known = sent.get(peer);
  if (known !== undefined && known.certificate === certificate) return known.text;
  const client: IngressClient = { address: peer, certificate };
  const text = Buffer.from(JSON.stringify(client)).toString("base64url");
  keep(sent, peer, { certificate, text });
  return text;
}

/**
 * Returns the client that an ingress process of this node has told; undefined when it told none.
 * The same text gives the same object.
 */
export function clientShown(text: string | undefined): IngressClient | undefined {
  if (text === undefined || text === "") return undefined;
  const known = received.get(text);
  if (known !== undefined) return known;
  const client = JSON.parse(Buffer.from(text, "base64url").toString()) as IngressClient;
  keep(received, text, client);
  return client;
}

function keep<Value>(map: Map<string, Value>, key: string, value: Value): void {
  if (map.size >= KEPT) map.clear();
  map.set(key, value);
}
