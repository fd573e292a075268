import { byId, element } from "./dom.js";
import { act } from "./node_api.js";

/** Time for which the outcome of an action is shown, in ms. */
const OUTCOME_MS = 15_000;

/** An action that a button offers. */
interface Offer {
  readonly label: string;
  /** The label for those who do not see what it stands beside. */
  readonly spoken?: string;
  readonly question: () => string;
  readonly action: string;
  readonly about?: string;
}

let clearing: ReturnType<typeof setTimeout> | undefined;

/**
 * Returns a button that has the node do something, when its user has confirmed it. It is shown to
 * those who may do it.
 */
export function actionButton({ label, spoken = label, question, action, about }: Offer): HTMLElement {
  const button = element("button", { type: "button", class: "action", "aria-label": spoken }, label);
  button.addEventListener("click", () => ask(question(), action, about));
  return button;
}

/** Shows the actions, or hides them from a user who may not do them. */
export function allowActions(mayAct: boolean): void {
  document.body.classList.toggle("may-act", mayAct);
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
  clearTimeout(clearing);
  outcome.textContent = "…";
  outcome.textContent = await act(action, about).catch((error: Error) => error.message);
  clearing = setTimeout(() => outcome.replaceChildren(), OUTCOME_MS);
}
