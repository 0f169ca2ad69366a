// The page: who is asked, the question, the answer, and what is told of the model.

import { facts, inShort, isClasses, refusal, shown } from "./answer.js";
import { putCard, versions } from "./about.js";
import { el, saying } from "./elements.js";
import { feedback } from "./feedback.js";
import { samples, shownMetrics, summary } from "./metrics.js";
import { occlusion } from "./occlusion.js";
import { requestForm } from "./request.js";
import { Refused, ask, askEach, askGrowing, getJson, getText, onLockedOut, useToken } from "./server.js";
import { knows, language, say, speak } from "./words.js";

const REFRESH_MS = 5_000;
const LATELY_MS = 30_000;
const at = (id) => document.getElementById(id);
const state = { about: null, model: null, form: null, asking: null, seen: [] };

const THEMES = ["auto", "light", "dark"];
const remembered = (key) => {
  try {
    return localStorage.getItem(`noria-${key}`);
  } catch {
    return null; // a browser that keeps nothing
  }
};
const remember = (key, value) => {
  try {
    localStorage.setItem(`noria-${key}`, value);
  } catch {
    // then it is not remembered
  }
};

function useTheme(theme) {
  const wanted = THEMES.includes(theme) ? theme : "auto";
  document.documentElement.dataset.theme = wanted;
  say(at("theme"), `theme.${wanted}`);
  return wanted;
}

function useLanguage(wanted) {
  speak(wanted);
  const other = language() === "zh" ? ["English", "en"] : ["中文", "zh"];
  [at("language").textContent, at("language").lang] = other;
}

function trouble(error) {
  const place = at("trouble");
  place.hidden = !error;
  place.removeAttribute("data-t");
  if (!error) return;
  if (error instanceof Refused)
    place.replaceChildren(...refusal(error).map((node) => el("span", { class: node.className }, ...node.childNodes)));
  else if (error.key) say(place, error.key, error.given);
  else place.textContent = String(error.message ?? error);
}

async function enter() {
  try {
    state.about = await getJson("about");
  } catch (error) {
    if (at("entrance").hidden || at("token").value) trouble(error);
    return;
  }
  trouble(null);
  at("entrance").hidden = true;
  at("token").value = "";
  at("inside").hidden = false;
  const models = state.about.models;
  at("model").replaceChildren(...models.map((model) => el("option", { value: model.name }, model.name)));
  choose(models.find((model) => model.name === location.hash.slice(1)) ?? models[0]);
}

function choose(model) {
  state.asking?.abort();
  state.form?.close();
  Object.assign(state, { model, seen: [] });
  at("model").value = model.name;
  at("facts").replaceChildren(scenarioOf(model), el("span", {}, el("code", {}, model.version)));
  state.form = requestForm(model, { maxBytes: state.about.max_body_bytes, onTrouble: trouble });
  const send = saying("button", "ask.send", {}, { class: "main", id: "send" });
  const example = saying(
    "button",
    "ask.example",
    {},
    { type: "button", class: "plain", on: { click: () => state.form.write(model.example) } },
  );
  at("question").replaceChildren(
    ...state.form.nodes,
    el("div", { class: "row" }, send, example, saying("span", "ask.keys", {}, { class: "quiet keys" })),
  );
  state.form.write(model.example);
  at("answer").replaceChildren(saying("p", "answer.empty", {}, { class: "quiet" }));
  for (const id of ["model-card", "data-card"]) at(id).open = false;
  readCards(model);
  refresh();
}

const scenarioOf = ({ scenario }) =>
  knows(`scenario.${scenario}`)
    ? saying("span", `scenario.${scenario}`)
    : el("span", {}, scenario.replaceAll("-", " "));

async function readCards(model) {
  try {
    const cards = await getJson(`models/${model.name}/cards`);
    if (state.model !== model) return;
    putCard(at("model-card"), cards.model_card);
    putCard(at("data-card"), cards.data_card);
  } catch (error) {
    if (state.model === model) trouble(error);
  }
}

/** What changes by itself; while nobody looks, nothing is asked. */
async function refresh() {
  const { model } = state;
  if (!model || document.hidden || at("inside").hidden) return;
  await Promise.all([
    show(model, "history", getJson(`models/${model.name}/history`), (told) => shownHistory(model, told)),
    show(model, "metrics", getText("metrics"), (text) => shownMetrics(...measured(model, text))),
  ]);
}

/** What was asked for, made into nodes, where it belongs; or why it is not there. */
async function show(model, place, asking, nodesOf) {
  let nodes;
  try {
    nodes = nodesOf(await asking);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    nodes = refusal(error);
  }
  if (state.model === model) at(place).replaceChildren(...nodes);
}

function shownHistory(model, told) {
  if (state.model === model && told.served !== model.version) {
    model.version = told.served;
    at("facts").querySelector("code").textContent = told.served;
    readCards(model);
  }
  return versions(told);
}

function measured(model, text) {
  const isFirst = model === state.about.models[0];
  const told = summary(samples(text), model.name, [model.path, ...(isFirst ? ["/predict"] : [])]);
  const now = performance.now();
  state.seen = [...state.seen.filter(({ at }) => at > now - LATELY_MS), { at: now, requests: told.requests }];
  const [first] = state.seen;
  const rate = Math.max(0, (1_000 * (told.requests - first.requests)) / Math.max(REFRESH_MS, now - first.at));
  return [told, rate];
}

async function send() {
  state.asking?.abort();
  const asking = (state.asking = new AbortController());
  const { model, form } = state;
  const given = form.read();
  trouble(null);
  busy(true);
  try {
    if (given.inputs) await answerEach(model, given.inputs, asking.signal);
    else answerOne(model, given.request, await answered(model, given.request, asking.signal));
  } catch (error) {
    if (error.name === "AbortError") return;
    at("answer").replaceChildren(
      ...(error instanceof Refused ? refusal(error) : [el("p", { class: "refusal" }, String(error.message))]),
    );
  } finally {
    if (state.asking === asking) busy(false);
    refresh();
  }
}

function answered(model, request, signal) {
  if (!model.grows) return ask(model.path, request, { signal });
  let text = "";
  const onPiece = (piece) => {
    text += piece;
    at("answer").replaceChildren(...shown({ text }, request));
  };
  return askGrowing(model.path, request, { signal, onPiece });
}

function busy(isBusy) {
  at("answer").setAttribute("aria-busy", String(isBusy));
  say(at("send"), isBusy ? "ask.sending" : "ask.send");
}

function answerOne(model, request, asked) {
  const texts = Object.entries(model.request.properties).filter(
    ([field, schema]) => schema.type === "string" && request[field],
  );
  const canWeigh = isClasses(asked.answer) && texts.length === 1 && texts[0][1].contentEncoding === undefined;
  at("answer").replaceChildren(
    ...shown(asked.answer, request),
    facts(asked),
    ...(canWeigh ? [occlusion(model, texts[0][0], request, asked.answer.label, state.about, trouble)] : []),
    state.about.keeps_feedback
      ? feedback({ model, request, asked, options: isClasses(asked.answer) ? Object.keys(asked.answer.scores) : [] })
      : saying("p", "feedback.none", {}, { class: "quiet" }),
  );
}

async function answerEach(model, inputs, signal) {
  const list = el("ol", { class: "each" });
  const count = el("p", { class: "quiet" });
  at("answer").replaceChildren(count, list);
  let done = 0;
  say(count, "answer.lines", { done, count: inputs.length });
  for await (const answer of askEach(model.path, inputs, { signal })) {
    const [asked] = Object.values(inputs[done]);
    done += 1;
    list.append(
      el(
        "li",
        {},
        el("span", { class: "quiet" }, asked),
        el("span", { class: answer.error ? "refusal" : "said" }, inShort(answer)),
      ),
    );
    say(count, "answer.lines", { done, count: inputs.length });
  }
}

function listen() {
  at("question").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  at("question").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send();
  });
  at("entrance").addEventListener("submit", (event) => {
    event.preventDefault();
    useToken(at("token").value);
    enter();
  });
  at("model").addEventListener("change", () => {
    history.replaceState(null, "", `#${at("model").value}`);
    choose(state.about.models.find((model) => model.name === at("model").value));
  });
  at("language").addEventListener("click", () => {
    useLanguage(language() === "zh" ? "en" : "zh");
    remember("language", language());
  });
  at("theme").addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
    remember("theme", useTheme(next));
  });
  document.addEventListener("visibilitychange", refresh);
  setInterval(refresh, REFRESH_MS);
}

onLockedOut(() => {
  at("inside").hidden = true;
  at("entrance").hidden = false;
  document.querySelector("footer").hidden = true; // a link can't send the token
  at("token").focus();
});
useTheme(remembered("theme"));
useLanguage(remembered("language") ?? (navigator.language.startsWith("zh") ? "zh" : "en"));
listen();
enter();
