// Asks the node, with a token where it wants one.
import { byId } from "./dom.js";

/** The token lives as long as the tab, and is sent to this node alone. */
const TOKEN = "cairn-token";

/**
 * Time without a message after which the feed is opened anew, in ms: a link that was cut without a
 * word never ends a stream.
 */
const SILENT_MS = 8_000;

/** Pause before the feed is opened again, in ms. */
const AGAIN_MS = 1_000;

function credentials(): Record<string, string> {
  const token = sessionStorage.getItem(TOKEN);
  return token === null ? {} : { authorization: `Bearer ${token}` };
}

/** Returns the answer for a path; throws with the node's words when it refuses. */
export async function ask(path: string, signal?: AbortSignal): Promise<Response> {
  const answer = await fetch(path, { headers: credentials(), signal: signal ?? null });
  byId("sign-in").hidden = answer.status !== 401;
  if (answer.status === 401) throw new Error("the node asks for a token");
  if (!answer.ok && answer.status !== 404) throw new Error((await answer.text()).trim());
  return answer;
}

/** Has the node do something, and returns its words for what it did. */
export async function act(action: string, about = ""): Promise<string> {
  const headers = { "x-cairn-action": "1", ...credentials() };
  const answer = await fetch(`actions/${action}?about=${encodeURIComponent(about)}`, { method: "POST", headers });
  return (await answer.text()).trim();
}

/** Takes a token from the form; `signedIn` is called when there is one. */
export function signIn(signedIn: () => void): void {
  const field = byId("token") as HTMLInputElement;
  byId("sign-in").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(TOKEN, field.value.trim());
    field.value = "";
    signedIn();
  });
}

/** A stream of events from the node, which is opened again whenever it ends. */
export class NodeFeed {
  readonly #handlers = new Map<string, (data: unknown) => void>();
  #again: ReturnType<typeof setTimeout> | undefined;
  #silence: ReturnType<typeof setTimeout> | undefined;
  #stream = new AbortController();

  constructor(private readonly problem: (text: string) => void) {}

  on<Message>(event: string, handle: (message: Message) => void): void {
    this.#handlers.set(event, handle as (data: unknown) => void);
  }

  /** Opens the stream now, in place of one that is open. */
  async open(): Promise<void> {
    this.#stream.abort();
    const stream = new AbortController();
    this.#stream = stream;
    clearTimeout(this.#again);
    try {
      this.#expect();
      const { body, status } = await ask("feed", stream.signal);
      if (status === 404 || body === null) throw new Error("the node has no feed");
      await this.#read(body);
    } catch (error) {
      if (this.#stream === stream) this.problem((error as Error).message);
    }
    if (this.#stream === stream) this.#again = setTimeout(() => void this.open(), AGAIN_MS);
  }

  /** Gives the stream up unless something comes in time. */
  #expect(): void {
    clearTimeout(this.#silence);
    const stream = this.#stream;
    this.#silence = setTimeout(() => stream.abort(), SILENT_MS);
  }

  async #read(body: ReadableStream<Uint8Array>): Promise<void> {
    const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      this.#expect();
      text += value;
      const messages = text.split("\n\n");
      text = messages.pop() ?? "";
      for (const message of messages) this.#handle(message);
    }
  }

  #handle(message: string): void {
    const [event = "", data = ""] = message.split("\n");
    this.#handlers.get(event.slice("event: ".length))?.(JSON.parse(data.slice("data: ".length)));
  }
}
