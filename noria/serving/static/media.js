// A field that takes a file: dropped, chosen, or recorded; shown before it is asked about, and sent in base64.

import { el, saying, word } from "./elements.js";
import { asWav, canRecord, record } from "./sound.js";
import { knows, name, number, say } from "./words.js";

const asKb = (bytes) => `${number(bytes / 1_000, bytes < 10_000 ? 1 : 0)} kB`;

const asBase64 = (blob) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result.slice(reader.result.indexOf(",") + 1)));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(blob);
  });

const blobOf = (base64) => new Blob([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))]);

/** {node, read, write}: `read()` is base64, or "" where nothing was chosen. */
export function mediaField(field, schema, { maxBytes, onTrouble }) {
  const kind = schema.contentMediaType.startsWith("audio") ? "audio" : "image";
  let held = "";
  let address = "";
  const preview = el("div", { class: "preview" });
  const input = el("input", { type: "file", accept: schema.contentMediaType, id: `field-${field}`, class: "hidden" });
  const zone = el(
    "label",
    { class: "drop", htmlFor: input.id },
    caption(field),
    saying("span", `media.${kind}`, {}, { class: "quiet" }),
    input,
  );

  function show(blob, title) {
    if (address) URL.revokeObjectURL(address);
    address = blob ? URL.createObjectURL(blob) : "";
    preview.replaceChildren();
    if (!blob) return;
    const shown = kind === "audio" ? el("audio", { controls: true, src: address }) : el("img", { src: address });
    if (kind === "audio") name(shown, "label", "media.heard");
    else name(shown, "alt", "media.chosen");
    const remove = saying(
      "button",
      "media.remove",
      {},
      { type: "button", class: "plain", on: { click: () => clear() } },
    );
    preview.append(
      shown,
      el("span", { class: "quiet" }, title ?? word("media.example"), ` · ${asKb(blob.size)}`),
      remove,
    );
  }

  function clear() {
    held = "";
    input.value = "";
    show(null);
    input.focus();
  }

  async function take(blob, title) {
    if (!blob) return;
    onTrouble(null);
    if (blob.size * (4 / 3) > maxBytes) {
      onTrouble({
        key: "media.long",
        given: { name: title, size: () => asKb(blob.size), most: () => asKb(maxBytes * 0.75) },
      });
      return;
    }
    held = await asBase64(blob);
    show(blob, title);
  }

  input.addEventListener("change", () => take(input.files[0], input.files[0]?.name));
  for (const event of ["dragenter", "dragover"])
    zone.addEventListener(event, (e) => {
      e.preventDefault();
      zone.classList.add("over");
    });
  for (const event of ["dragleave", "drop"])
    zone.addEventListener(event, (e) => {
      e.preventDefault();
      zone.classList.remove("over");
    });
  zone.addEventListener("drop", (e) => take(e.dataTransfer.files[0], e.dataTransfer.files[0]?.name));

  return {
    node: el("div", { class: "media" }, zone, kind === "audio" ? recorder(take, onTrouble) : null, preview),
    read: () => held,
    write: (base64) => {
      held = base64 ?? "";
      show(held ? blobOf(held) : null);
    },
    close: () => address && URL.revokeObjectURL(address),
  };
}

const caption = (field) =>
  knows(`field.${field}`)
    ? saying("span", `field.${field}`, {}, { class: "caption" })
    : el("span", { class: "caption" }, field);

function recorder(take, onTrouble) {
  const button = say(el("button", { type: "button", class: "record" }), "sound.record");
  let running = null;
  button.addEventListener("click", async () => {
    if (running) return running.stop();
    if (!canRecord()) return onTrouble({ key: "sound.none" });
    onTrouble(null);
    button.disabled = true;
    try {
      running = await record((seconds) => say(button, "sound.stop", { seconds }));
    } catch {
      return onTrouble({ key: "sound.none" });
    } finally {
      button.disabled = false;
    }
    say(button, "sound.stop", { seconds: 0 }).classList.add("running");
    const recorded = await running.done;
    running = null;
    say(button, "sound.record").classList.remove("running");
    try {
      await take(await asWav(recorded), "recording.wav");
    } catch {
      onTrouble({ key: "media.unreadable" });
    }
  });
  return button;
}
