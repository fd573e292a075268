import { CairnError } from "../base/errors.js";

/**
 * Waits for a node's answer for a limited time.
 * @throws CairnError TIMEOUT
 */
export async function within<Answer>(timeoutMs: number, id: string, answer: Promise<Answer>): Promise<Answer> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    const late = () => reject(new CairnError("TIMEOUT", `node ${id} gave no answer in ${timeoutMs} ms`));
    timer = setTimeout(late, timeoutMs);
  });
  try {
    return await Promise.race([answer, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
