import { rename, writeFile } from "node:fs/promises";

/** Puts another file in the place of the present one, in one step, as an operator's tool should. */
export async function replaceFile(path: string, text: string): Promise<void> {
  await writeFile(`${path}.new`, text);
  await rename(`${path}.new`, path);
}
