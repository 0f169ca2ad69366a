// Which words mattered: the same question again without each of them, all in one body. It needs no look into the model.

import { el, saying } from "./elements.js";
import { number, percent, say } from "./words.js";
import { ask } from "./server.js";

const WORTH_MARKING = 0.02; // of the probability

/** The text in words and what is between them: [{text, isWord}]. */
function segments(text) {
  if (!window.Intl?.Segmenter)
    return text
      .split(/(\s+)/)
      .filter(Boolean)
      .map((part) => ({ text: part, isWord: /\S/.test(part) }));
  return Array.from(new Intl.Segmenter(undefined, { granularity: "word" }).segment(text), (part) => ({
    text: part.segment,
    isWord: Boolean(part.isWordLike),
  }));
}

/** Neighbours together until there are no more words than may be asked at once. */
function joined(parts, most) {
  const words = parts.filter((part) => part.isWord).length;
  const together = Math.ceil(words / most);
  if (together <= 1) return parts;
  const groups = [];
  let left = 0;
  for (const part of parts) {
    if (part.isWord && left > 0) left -= 1;
    else if (part.isWord) {
      groups.push({ ...part });
      left = together - 1;
      continue;
    }
    if (groups.length) groups.at(-1).text += part.text;
    else groups.push({ ...part });
  }
  return groups;
}

/** What each part adds to the probability of the label; parts between words add nothing. */
async function weighed(model, field, request, label, limits) {
  const text = request[field];
  const bytes = new TextEncoder().encode(JSON.stringify(request)).length + 2;
  const most = Math.min(limits.max_batch_rows, Math.floor((limits.max_body_bytes * 0.9) / bytes)) - 1;
  const parts = joined(segments(text), Math.max(1, most));
  const places = parts.flatMap((part, i) => (part.isWord ? [i] : []));
  if (places.length < 2) return null;
  const without = places.map((i) => ({
    ...request,
    [field]: parts
      .filter((_, j) => j !== i)
      .map((part) => part.text)
      .join(""),
  }));
  const { answer } = await ask(model.path, { inputs: [request, ...without] });
  const [whole, ...others] = answer.outputs.map((output) => output.scores[label] ?? 0);
  places.forEach((place, i) => (parts[place].weight = whole - others[i]));
  return parts;
}

function marked(part) {
  if (part.weight === undefined) return part.text;
  const says = () => `${part.weight > 0 ? "+" : ""}${number(100 * part.weight, 1)}`;
  const node = el("span", { class: "word", title: `${says()}` }, part.text);
  if (Math.abs(part.weight) >= WORTH_MARKING) {
    node.classList.add(part.weight > 0 ? "for" : "against");
    node.style.setProperty("--weight", `${Math.round(Math.min(1, 0.15 + Math.abs(part.weight) * 1.5) * 100)}%`);
  }
  return node;
}

/** A button that asks, and then what it found. */
export function occlusion(model, field, request, label, limits, onRefused) {
  const place = el("div", { class: "occlusion" });
  const button = say(el("button", { type: "button", class: "plain" }), "words.ask");
  button.addEventListener("click", async () => {
    button.disabled = true;
    say(button, "words.asking");
    try {
      const parts = await weighed(model, field, request, label, limits);
      place.replaceChildren(...(parts ? told(parts, label) : [saying("p", "words.few", {}, { class: "quiet" })]));
    } catch (error) {
      button.disabled = false;
      say(button, "words.ask");
      onRefused(error);
    }
  });
  place.append(button);
  return place;
}

/** The text with its marks; for those who don't see it, the words that mattered most, in order. */
function told(parts, label) {
  const weighty = parts
    .filter((part) => Math.abs(part.weight ?? 0) >= WORTH_MARKING)
    .sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight));
  const rows = weighty
    .slice(0, 10)
    .map((part) =>
      saying("li", "words.one", {
        word: part.text,
        points: () => `${part.weight > 0 ? "+" : "−"}${percent(Math.abs(part.weight)).replace(/[%\s]/g, "")}`,
      }),
    );
  return [
    el("p", { class: "said words", "aria-hidden": "true" }, ...parts.map(marked)),
    saying("p", "words.told", { label }, { class: "quiet" }),
    el("ul", { class: "unseen" }, saying("li", "words.speaks"), ...rows),
  ];
}
