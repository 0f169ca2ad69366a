// Right or wrong, and what would have been right.

import { el, saying, word } from "./elements.js";
import { refusal } from "./answer.js";
import { sendFeedback } from "./server.js";
import { say } from "./words.js";

/** Buttons under an answer; `options` are what a correction may be chosen from. */
export function feedback({ model, request, asked, options = [] }) {
  const place = el("div", { class: "feedback" });
  const said = el("div", { role: "status" });
  const right = saying("button", "feedback.right", {}, { type: "button" });
  const wrong = saying("button", "feedback.wrong", {}, { type: "button", "aria-expanded": "false" });
  const form = correctionForm(options);
  form.node.hidden = true;

  async function send(isRight, correction) {
    const { model_version: version, ...response } = asked.answer;
    const body = {
      model: model.name,
      request,
      response,
      request_id: asked.requestId,
      model_version: version,
      is_right: isRight,
    };
    const controls = [right, wrong, ...form.node.elements];
    for (const control of controls) control.disabled = true;
    try {
      await sendFeedback(correction ? { ...body, correction } : body);
      form.node.hidden = true;
      buttons.remove();
      said.replaceChildren(saying("p", "feedback.thanks"));
    } catch (refused) {
      for (const control of controls) control.disabled = false;
      said.replaceChildren(...refusal(refused));
    }
  }

  right.addEventListener("click", () => send(true, ""));
  wrong.addEventListener("click", () => {
    form.node.hidden = !form.node.hidden;
    wrong.setAttribute("aria-expanded", String(!form.node.hidden));
    if (!form.node.hidden) form.input.focus();
  });
  form.node.addEventListener("submit", (event) => {
    event.preventDefault();
    send(false, form.input.value.trim());
  });
  const buttons = el("div", { class: "row" }, word("feedback.ask"), right, wrong);
  place.append(buttons, form.node, said);
  return place;
}

function correctionForm(options) {
  const choices = el("datalist", { id: "choices" }, ...options.map((value) => el("option", { value })));
  const input = options.length
    ? el("input", { list: "choices", autocomplete: "off", maxLength: 20_000 })
    : el("textarea", { rows: 2, maxLength: 20_000 });
  const label = el("label", { class: "grow" }, saying("span", "feedback.correction", {}, { class: "caption" }), input);
  const send = say(el("button", { class: "main" }), "feedback.send");
  return { node: el("form", { class: "row correction" }, label, choices, send), input };
}
