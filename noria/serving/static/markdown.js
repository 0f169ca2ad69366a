// As much Markdown as cards are written in: headings, tables, lists, code, bold. It makes nodes; links stay text.

import { el } from "./elements.js";
import { name } from "./words.js";

/** The nodes of a text. */
export function markdown(text) {
  const lines = text.split("\n");
  const nodes = [];
  while (lines.length) {
    const line = lines[0];
    if (!line.trim()) lines.shift();
    else if (line.startsWith("```")) nodes.push(fence(lines));
    else if (/^#{1,6} /.test(line)) nodes.push(heading(lines.shift()));
    else if (line.startsWith("|")) nodes.push(table(taken(lines, (one) => one.startsWith("|"))));
    else if (/^[-*] /.test(line)) nodes.push(list(taken(lines, (one) => /^([-*] | +\S)/.test(one))));
    else nodes.push(el("p", {}, ...inline(taken(lines, isPlain).join(" "))));
  }
  return nodes;
}

const isPlain = (line) => line.trim() !== "" && !/^(#{1,6} |\||[-*] |```)/.test(line);

/** The lines from the first on for which it holds, the first always. */
function taken(lines, holds) {
  const found = [lines.shift()];
  while (lines.length && holds(lines[0])) found.push(lines.shift());
  return found;
}

function fence(lines) {
  lines.shift();
  const code = [];
  while (lines.length && !lines[0].startsWith("```")) code.push(lines.shift());
  lines.shift();
  return el("pre", {}, el("code", {}, code.join("\n")));
}

function heading(line) {
  const [, marks, title] = line.match(/^(#+) (.*)$/);
  return el(`h${Math.min(6, marks.length + 2)}`, {}, ...inline(title));
}

function list(lines) {
  const items = [];
  for (const line of lines) {
    if (/^[-*] /.test(line)) items.push(line.slice(2));
    else items[items.length - 1] += ` ${line.trim()}`;
  }
  return el("ul", {}, ...items.map((item) => el("li", {}, ...inline(item))));
}

const cells = (line) =>
  line
    .trim()
    .replace(/^\||\|$/g, "")
    .split(/(?<!\\)\|/)
    .map((cell) => cell.trim());

function table(lines) {
  const [head, ...rest] = lines;
  const rows = rest.filter((line) => !/^[|\s:-]+$/.test(line));
  const row = (line, tag, properties) =>
    el("tr", {}, ...cells(line).map((cell) => el(tag, properties, ...inline(cell))));
  const scrolls = name(el("div", { class: "scrolls", role: "group", tabIndex: 0 }), "label", "cards.table");
  scrolls.append(
    el(
      "table",
      {},
      el("thead", {}, row(head, "th", { scope: "col" })),
      el("tbody", {}, ...rows.map((line) => row(line, "td", {}))),
    ),
  );
  return scrolls;
}

function inline(text) {
  return text
    .split(/(`[^`]+`|\*\*[^*]+\*\*)/)
    .filter(Boolean)
    .map((part) => {
      if (part.length > 2 && part.startsWith("`") && part.endsWith("`")) return el("code", {}, part.slice(1, -1));
      if (part.length > 4 && part.startsWith("**") && part.endsWith("**")) return el("strong", {}, part.slice(2, -2));
      return part;
    });
}
