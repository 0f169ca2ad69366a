// Asks the server: with the token, and with refusals in words. The token is in this module's memory, and nowhere else.

import { t } from "./words.js";

// One visit meets one version, also while another is tried: what explains an answer is of the version that gave it.
const session = Array.from(crypto.getRandomValues(new Uint32Array(2)), (part) => part.toString(16)).join("-");

let token = "";
let whenLockedOut = () => {};

export const useToken = (given) => {
  token = given.trim();
};

/** What to do when the server wants a token, or another one. */
export const onLockedOut = (listen) => {
  whenLockedOut = listen;
};

/** A refusal; `key` and `given` say it, `said` has the server's own words. */
export class Refused extends Error {
  constructor(status, { what = "", expected = "", next = "" } = {}, retryAfter = "") {
    super(what || String(status));
    const known = [400, 401, 408, 409, 413, 422, 429, 500, 503].includes(status);
    this.key = status === 0 ? "refused.gone" : `refused.${known ? status : "other"}`;
    this.given = { status, seconds: retryAfter || "1" };
    this.said = [what, expected, next].filter(Boolean).join(" · ");
  }

  get text() {
    return t(this.key, this.given);
  }
}

async function asked(path, options = {}) {
  const headers = { "X-Session-ID": session, ...(token ? { Authorization: `Bearer ${token}` } : {}), ...options.headers };
  let response;
  try {
    response = await fetch(path.replace(/^\//, ""), { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0);
  }
  if (response.ok) return response;
  const body = (await response.json().catch(() => null)) ?? {};
  if (response.status === 401) whenLockedOut();
  throw new Refused(response.status, body.error ?? {}, response.headers.get("Retry-After") ?? "");
}

const posting = (body, accept, signal) => ({
  method: "POST",
  headers: { "Content-Type": "application/json", Accept: accept },
  body: JSON.stringify(body),
  signal,
});

export const getJson = async (path) => (await asked(path)).json();
export const getText = async (path) => (await asked(path)).text();

/** The answer, the request's id, and how long it took there and back. */
export async function ask(path, body, { signal } = {}) {
  const started = performance.now();
  const response = await asked(path, posting(body, "application/json", signal));
  const answer = await response.json();
  return { answer, requestId: response.headers.get("X-Request-ID"), ms: performance.now() - started };
}

const LINES = "application/x-ndjson";

/** One answer a line, each as soon as it is there. */
export async function* askEach(path, inputs, { signal } = {}) {
  yield* linesOf(await asked(path, posting({ inputs }, LINES, signal)));
}

/** The same as `ask`; `onPiece` is told what the answer has more, while it is made. */
export async function askGrowing(path, body, { signal, onPiece }) {
  const started = performance.now();
  const response = await asked(path, posting(body, LINES, signal));
  let answer;
  for await (const line of linesOf(response)) {
    if ("piece" in line) onPiece(line.piece);
    else answer = line;
  }
  if (!answer) throw new Refused(0);
  if (answer.error) throw new Refused(500, answer.error);
  return { answer, requestId: response.headers.get("X-Request-ID"), ms: performance.now() - started };
}

async function* linesOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    rest += value ?? "";
    const lines = rest.split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
    if (done) return;
  }
}

export const sendFeedback = async (said) => (await asked("feedback", posting(said, "application/json"))).json();
