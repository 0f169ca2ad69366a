// Shows an answer by its shape: classes with bars, a text, a span of the context, ranked items, or simply its fields.

import { bar, el, saying, word } from "./elements.js";
import { number, percent, say } from "./words.js";

const MOST_BARS = 8;
const VERSION = "model_version";

/** The nodes that show it. `request` is what was asked. */
export function shown(answer, request) {
  if (answer.scores && typeof answer.label === "string") return classes(answer);
  if (Array.isArray(answer.items)) return ranked(answer);
  if (typeof answer.answer === "string" && "start" in answer) return span(answer, request);
  if (typeof answer.text === "string") return text(answer, request);
  return [el("dl", { class: "fields" }, ...fieldsOf(answer))];
}

/** The same in one line, for a list of many. */
export function inShort(answer) {
  if (answer.error) return answer.error.what;
  if (answer.scores && typeof answer.label === "string")
    return `${answer.label} · ${percent(answer.scores[answer.label])}`;
  return answer.text ?? answer.answer ?? JSON.stringify(answer);
}

/** Version, time and id of an answer. */
export function facts({ answer, ms, requestId }) {
  const fact = (key, ...value) => el("span", {}, word(key), " ", ...value);
  return el(
    "p",
    { class: "facts" },
    fact("answer.version", el("code", {}, answer[VERSION] ?? "–")),
    ms === undefined ? null : fact("answer.time", word("answer.ms", { ms: () => number(ms, ms < 10 ? 1 : 0) })),
    requestId ? fact("answer.id", el("code", { title: requestId }, requestId.slice(0, 12))) : null,
  );
}

function barRow(label, share, isFirst) {
  return el(
    "li",
    { class: isFirst ? "first" : "" },
    el("span", { class: "what" }, label),
    bar(share),
    saying("span", "value", { value: () => percent(share) }, { class: "share" }),
  );
}

function withMore(rows) {
  const rest = rows.length - MOST_BARS;
  return rest > 0
    ? [...rows.slice(0, MOST_BARS), saying("li", "answer.more", { count: () => number(rest) }, { class: "quiet" })]
    : rows;
}

function classes({ label, scores }) {
  const sorted = Object.entries(scores).sort(([, a], [, b]) => b - a);
  return [
    el(
      "p",
      { class: "big" },
      el("strong", {}, label),
      " ",
      saying("span", "answer.sure", { percent: () => percent(scores[label] ?? 0) }, { class: "quiet" }),
    ),
    el("ul", { class: "bars" }, ...withMore(sorted.map(([name, share]) => barRow(name, share, name === label)))),
  ];
}

function ranked({ items, scores = [], unknown = [] }) {
  const most = Math.max(...scores, 1e-9); // of many items each is unlikely: bars compare them with the best
  const rows = items.map((item, i) =>
    el(
      "li",
      {},
      el("span", { class: "what" }, item),
      bar((scores[i] ?? 0) / most),
      saying("span", "value", { value: () => percent(scores[i] ?? 0) }, { class: "share" }),
    ),
  );
  return [
    el("ol", { class: "bars ranked" }, ...rows),
    unknown.length ? saying("p", "answer.unknown", { items: unknown.join(", ") }, { class: "note" }) : null,
  ].filter(Boolean);
}

/** Start and end count code points, as the server does, not UTF-16. */
function span({ answer, start, end, score }, request) {
  if (start < 0) return [saying("p", "answer.none", {}, { class: "big" }), sureOf(score)];
  const letters = Array.from(request.context ?? "");
  const [before, found, after] = [letters.slice(0, start), letters.slice(start, end), letters.slice(end)].map((part) =>
    part.join(""),
  );
  return [
    el("p", { class: "big" }, el("strong", {}, answer)),
    sureOf(score),
    el("p", { class: "said" }, before, el("mark", {}, found), after),
  ];
}

function text(answer, request) {
  const said = answer.text === "" ? word("answer.silence") : answer.text;
  const begun = typeof request.prompt === "string" ? el("span", { class: "quiet" }, request.prompt) : null;
  return [
    el("p", { class: "said large" }, begun, said),
    answer.confidence === undefined ? null : sureOf(answer.confidence),
    answer.placeholders_kept === false ? saying("p", "answer.placeholders", {}, { class: "note" }) : null,
  ].filter(Boolean);
}

const sureOf = (share) => saying("p", "answer.sure", { percent: () => percent(share) }, { class: "quiet" });

function fieldsOf(answer) {
  return Object.entries(answer)
    .filter(([name]) => name !== VERSION)
    .flatMap(([name, value]) => [
      el("dt", {}, name),
      el("dd", {}, typeof value === "string" ? value : JSON.stringify(value)),
    ]);
}

/** A refusal in words: ours, and below them the server's own. */
export function refusal(refused) {
  return [
    say(el("p", { class: "refusal" }), refused.key, refused.given),
    refused.said ? saying("p", "refused.said", { what: refused.said }, { class: "quiet" }) : null,
  ].filter(Boolean);
}

export const isClasses = (answer) => Boolean(answer.scores) && typeof answer.label === "string";
