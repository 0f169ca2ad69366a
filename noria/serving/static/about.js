// A model's past and papers: what went live when, and its cards.

import { el, saying, word } from "./elements.js";
import { markdown } from "./markdown.js";
import { moment, percent } from "./words.js";

const MOST_SHOWN = 12;

/** Nodes of the version history: latest first, what is live and what is tried beside it marked. */
export function versions({
  served,
  live,
  tried,
  is_followed: isFollowed,
  not_served: missed,
  canary_not_served: canaryMissed,
  events,
}) {
  if (!isFollowed)
    return [
      saying("p", "history.none", {}, { class: "quiet" }),
      el("p", {}, el("code", {}, served), " ", chip("served")),
    ];
  const nodes = [];
  if (missed) nodes.push(saying("p", "history.missed", missed, { class: "refusal" }));
  if (canaryMissed) nodes.push(saying("p", "history.canary-missed", canaryMissed, { class: "refusal" }));
  if (!events.length) return [...nodes, saying("p", "history.empty", {}, { class: "quiet" })];
  const marked = new Set();
  const rows = events.slice(0, MOST_SHOWN).map((event) => {
    const isFirst = !marked.has(event.version);
    marked.add(event.version);
    return entry(event, {
      isLive: isFirst && event.version === live,
      isServed: isFirst && event.version === served && served !== live,
      tried: isFirst && event.version === tried?.version ? tried : null,
    });
  });
  const isAll = events.length <= MOST_SHOWN;
  return [
    ...nodes,
    el("ol", { class: "timeline" }, ...rows),
    isAll ? "" : saying("p", "history.older", {}, { class: "quiet" }),
  ];
}

const chip = (state, given = {}) => saying("span", `history.${state}`, given, { class: `chip ${state}` });

function entry({ kind, version, time, reason }, { isLive, isServed, tried }) {
  return el(
    "li",
    { class: kind },
    el(
      "div",
      {},
      saying("span", `history.${kind}`, {}, { class: "kind" }),
      " ",
      el("code", {}, version),
      isLive ? " " : "",
      isLive ? chip("live") : "",
      isServed ? " " : "",
      isServed ? chip("served") : "",
      tried ? " " : "",
      tried ? chip(`as-${tried.mode}`, { share: () => percent(tried.share) }) : "",
    ),
    el(
      "div",
      { class: "quiet" },
      el("time", { dateTime: time }, word("value", { value: () => moment(time) })),
      reason ? ` · ${reason}` : "",
    ),
  );
}

/** Puts a card where it belongs. */
export function putCard(details, text) {
  details
    .querySelector(".card")
    .replaceChildren(...(text ? markdown(text) : [saying("p", "cards.none", {}, { class: "quiet" })]));
}
