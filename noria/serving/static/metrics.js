// What the server did, out of what it tells Prometheus.

import { el, saying } from "./elements.js";
import { number, say, t } from "./words.js";

/** Samples of Prometheus' text: [{name, labels, value}]. */
export function samples(text) {
  return text.split("\n").flatMap((line) => {
    const found = line.match(/^(\w+)(?:\{(.*)\})? (\S+)/);
    if (!found) return [];
    const labels = Object.fromEntries(
      Array.from((found[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g), ([, key, value]) => [key, value]),
    );
    return [{ name: found[1], labels, value: Number(found[3].replace("+Inf", "Infinity")) }];
  });
}

/** What is worth showing of one model that is asked by these routes. */
export function summary(all, model, routes) {
  const sum = (name, holds) =>
    all.filter((one) => one.name === name && holds(one.labels)).reduce((total, one) => total + one.value, 0);
  const isRoute = ({ route }) => routes.includes(route);
  const isModel = (labels) => labels.model === model;
  const buckets = new Map();
  for (const one of all.filter(({ name, labels }) => name === "noria_request_seconds_bucket" && isRoute(labels))) {
    const edge = one.labels.le === "+Inf" ? Infinity : Number(one.labels.le);
    buckets.set(edge, (buckets.get(edge) ?? 0) + one.value);
  }
  const sorted = [...buckets].sort(([a], [b]) => a - b);
  return {
    requests: sum("noria_requests_total", isRoute),
    p50: quantile(sorted, 0.5),
    p99: quantile(sorted, 0.99),
    queue: sum("noria_queue_rows", isModel),
    inside: sum("noria_requests_inside", isModel),
    refused: sum("noria_refusals_total", () => true),
    right: sum("noria_feedback_total", (labels) => isModel(labels) && labels.verdict === "right"),
    wrong: sum("noria_feedback_total", (labels) => isModel(labels) && labels.verdict === "wrong"),
  };
}

/** Seconds, read off the buckets of a histogram as Prometheus' histogram_quantile does; null where nothing was counted. */
export function quantile(buckets, share) {
  const total = buckets.at(-1)?.[1] ?? 0;
  if (!total) return null;
  let [before, below] = [0, 0];
  for (const [edge, count] of buckets) {
    if (count >= share * total) {
      if (edge === Infinity) return before;
      return before + ((edge - before) * (share * total - below)) / Math.max(1, count - below);
    }
    [before, below] = [edge, count];
  }
  return before;
}

const asMs = (seconds) =>
  seconds === null ? "–" : t("answer.ms", { ms: number(1_000 * seconds, seconds < 0.01 ? 1 : 0) });

/** Nodes that show it; `rate` is requests a second lately. */
export function shownMetrics(told, rate) {
  const figure = (key, value, given) => el("div", {}, saying("dt", key), el("dd", {}, say(el("span"), value, given)));
  const plain = (key, value, digits = 0) => figure(key, "value", { value: () => number(value, digits) });
  return [
    el(
      "dl",
      { class: "figures" },
      plain("metrics.requests", told.requests),
      plain("metrics.rate", rate, 1),
      figure("metrics.p50", "value", { value: () => asMs(told.p50) }),
      figure("metrics.p99", "value", { value: () => asMs(told.p99) }),
      plain("metrics.queue", told.queue),
      plain("metrics.inside", told.inside),
      plain("metrics.refused", told.refused),
      figure("metrics.feedback", "value", { value: () => `${number(told.right)} / ${number(told.wrong)}` }),
    ),
    saying("p", "metrics.since", {}, { class: "quiet" }),
  ];
}
