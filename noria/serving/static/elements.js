// Builds nodes. Text is always text: nothing here, and nothing anywhere on the page, reads a string as markup.

import { say } from "./words.js";

/** A node; `on` in its properties has listeners, `data` and aria-* are attributes, all else is set as it is. */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "on") for (const [event, listen] of Object.entries(value)) node.addEventListener(event, listen);
    else if (key === "class") node.className = value;
    else if (key in node && !key.startsWith("aria") && key !== "list") node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** A span that says a word. */
export const word = (key, given) => say(el("span"), key, given);

/** A node of this kind that says a word. */
export const saying = (tag, key, given, properties) => say(el(tag, properties), key, given);

/** A bar as long as a share; what it means is said beside it. */
export function bar(share) {
  const fill = el("span", { class: "fill" });
  fill.style.inlineSize = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return el("span", { class: "track", "aria-hidden": "true" }, fill);
}
