// The form of one model, made from the JSON Schema of its request: it knows no scenario by name.

import { el, saying, word } from "./elements.js";
import { mediaField } from "./media.js";
import { knows, say } from "./words.js";

const isMedia = (schema) => schema.contentEncoding === "base64";
const isList = (schema) => schema.type === "array";
const isLong = (schema) => schema.type === "string" && !isMedia(schema);

/** {nodes, read, write, onEach}: `read()` is {request} or, where each line is one, {inputs}. */
export function requestForm(model, { maxBytes, onTrouble }) {
  const { properties, required = [] } = model.request;
  const fields = Object.entries(properties).map(([field, schema]) => {
    const made = isMedia(schema)
      ? mediaField(field, schema, { maxBytes, onTrouble })
      : isList(schema)
        ? linesField(field)
        : isLong(schema)
          ? textField(field)
          : optionField(field, schema);
    return { field, schema, ...made };
  });
  const options = fields.filter((each) => each.isOption);
  const each = eachLine(fields, required);
  const nodes = [
    ...fields.filter((one) => !one.isOption).map((one) => one.node),
    each.node,
    options.length
      ? el(
          "details",
          { class: "options" },
          saying("summary", "ask.options"),
          el("div", { class: "grid" }, ...options.map((one) => one.node)),
        )
      : null,
  ];
  const request = () => {
    const given = fields.map(({ field, read }) => [field, read()]);
    return Object.fromEntries(
      given.filter(([field, value]) => value !== undefined && (value !== "" || required.includes(field))),
    );
  };
  return {
    nodes: nodes.filter(Boolean),
    read: () => (each.isOn() ? { inputs: each.lines() } : { request: request() }),
    write: (example) => fields.forEach(({ field, write }) => write(example[field])),
    close: () => fields.forEach((one) => one.close?.()),
    focus: () => fields[0]?.node.querySelector("input, textarea")?.focus(),
  };
}

function labelled(field, control, tag = "label") {
  const caption = knows(`field.${field}`)
    ? say(el("span", { class: "caption" }), `field.${field}`)
    : el("span", { class: "caption" }, field.replaceAll("_", " "));
  return el(tag, { class: "field" }, caption, control);
}

const area = (field, rows) => el("textarea", { id: `field-${field}`, rows, spellcheck: false });

function textField(field) {
  const control = area(field, field === "context" ? 8 : 5);
  const write = (value) => {
    control.value = value ?? "";
    control.dispatchEvent(new Event("input"));
  };
  return { node: labelled(field, control), control, read: () => control.value, write };
}

function linesField(field) {
  const control = area(field, 6);
  const lines = () =>
    control.value
      .split("\n")
      .map((line) => line.trim())
      .filter(Boolean);
  return { node: labelled(field, control), read: lines, write: (items) => (control.value = (items ?? []).join("\n")) };
}

function optionField(field, schema) {
  const kinds = [schema, ...(schema.anyOf ?? [])].map((one) => one.type);
  return kinds.includes("boolean") ? choiceField(field) : numberField(field, schema);
}

function choiceField(field) {
  const choices = [
    ["", "ask.default"],
    ["true", "ask.yes"],
    ["false", "ask.no"],
  ];
  const control = el("select", {}, ...choices.map(([value, key]) => say(el("option", { value }), key)));
  const read = () => (control.value === "" ? undefined : control.value === "true");
  return {
    node: labelled(field, control),
    isOption: true,
    read,
    write: (value) => (control.value = String(value ?? "")),
  };
}

function numberField(field, schema) {
  const limits = { min: schema.minimum ?? "", max: schema.maximum ?? "", step: schema.type === "integer" ? 1 : "any" };
  const control = el("input", { type: "number", placeholder: String(schema.default ?? ""), ...limits });
  const read = () => (control.value === "" ? undefined : Number(control.value));
  return { node: labelled(field, control), isOption: true, read, write: (value) => (control.value = value ?? "") };
}

/** Where one text is all that is asked for, a text of many lines can be many requests. */
function eachLine(fields, required) {
  const main = fields.filter((one) => !one.isOption);
  const one = main.length === 1 && required.length === 1 ? main[0] : null;
  if (!one?.control) return { node: null, isOn: () => false };
  const box = el("input", { type: "checkbox", id: "each" });
  const lines = () =>
    one.control.value
      .split("\n")
      .filter((line) => line.trim())
      .map((line) => ({ [one.field]: line }));
  const node = el("label", { class: "check" }, box, word("ask.each"));
  const shown = () => (node.hidden = !one.control.value.trim().includes("\n"));
  one.control.addEventListener("input", shown);
  shown();
  return { node, isOn: () => box.checked && lines().length > 1, lines };
}
