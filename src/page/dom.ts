// Makes elements. Text from the node only ever becomes text: no markup is made of it.

type Attributes = Readonly<Record<string, string | number>>;

/** Returns an element with attributes and children. */
export function element<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  attributes: Attributes = {},
  ...children: readonly (Node | string)[]
): HTMLElementTagNameMap[Name] {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  made.append(...children);
  return made;
}

/** Returns an element of a drawing. */
export function shape(
  name: "svg" | "rect" | "path" | "title",
  attributes: Attributes,
  ...children: readonly (Node | string)[]
): SVGElement {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  made.append(...children);
  return made;
}

/** Returns the element of the page with this id. */
export function byId(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no element ${id}`);
  return found;
}

/** Fills a definition list. */
export function define(list: HTMLElement, facts: readonly (readonly [string, string])[]): void {
  whenChanged(list, facts, () => {
    list.replaceChildren(
      ...facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
    );
  });
}

const shown = new WeakMap<Node, string>();

/** Calls `draw` when what an element shows has changed since the last call for it. */
export function whenChanged(about: Node, data: unknown, draw: () => void): void {
  const text = JSON.stringify(data);
  if (shown.get(about) === text) return;
  shown.set(about, text);
  draw();
}
