import { byId, element } from "./dom.js";
import { act } from "./node_api.js";

/** Returns a button that has the node do something, when its user has confirmed it. */
export function actionButton(label: string, question: string, action: string, about?: string): HTMLElement {
  const button = element("button", { type: "button" }, label);
  button.addEventListener("click", () => ask(question, action, about));
  return button;
}

/** Asks before an action, and tells what came of it. */
function ask(question: string, action: string, about: string | undefined): void {
  const dialog = byId("confirm") as HTMLDialogElement;
  byId("question").textContent = question;
  dialog.returnValue = "";
  dialog.onclose = () => {
    if (dialog.returnValue === "yes") void carryOut(action, about);
  };
  dialog.showModal();
}

async function carryOut(action: string, about: string | undefined): Promise<void> {
  const outcome = byId("outcome");
  outcome.textContent = "…";
  outcome.textContent = await act(action, about).catch((error: Error) => error.message);
}
