// The REST API, as the page needs it: token, errors as sentences, loss of the connection, server-sent events.

/** Where the server is: this file is two folders below it, also behind a proxy that offers it below a path. */
const ROOT = new URL("../../", import.meta.url);

/** The full address of a path of the API. */
export const address = (path) => new URL(path.replace(/^\//, ""), ROOT).href;

/** What the server refused, with its sentence. */
export class ApiError extends Error {
  constructor(status, { code = "error", message, param = null }, retryAfter = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.param = param;
    this.retryAfter = retryAfter;
  }
}

/** The server could not be reached. */
export class NetworkError extends Error {
  constructor() {
    super("The server cannot be reached.");
  }
}

/** Set by main.js: how the page asks for a token (resolves to whether it has been let in), and who is told of the connection. */
export const hooks = { askToken: async () => false, connection: () => {} };

const SESSION = "/v1/session";

let asking = null;

async function refusal(response) {
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch {
    // not from our application, such as a proxy's page
  }
  const message = error.message ?? `The server answered ${response.status} ${response.statusText}.`.replace(" .", ".");
  const wait = Number(response.headers.get("Retry-After"));
  return new ApiError(response.status, { ...error, message }, wait > 0 ? wait : null);
}

/**
 * Ask the server. A 401 asks the user for the token once for all requests that wait, and tries again.
 * @throws {ApiError|NetworkError}
 */
export async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(address(path), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    hooks.connection("lost");
    throw new NetworkError();
  }
  hooks.connection("back");
  if (response.ok) return response;
  const error = await refusal(response);
  if (response.status !== 401 || path === SESSION) throw error;
  asking ??= hooks.askToken(error.message).finally(() => (asking = null));
  if (!(await asking)) throw error;
  return request(path, options);
}

export const getJson = async (path, options = {}) => (await request(path, options)).json();
export const getBlob = async (path, options = {}) => (await request(path, options)).blob();

export async function postJson(path, value) {
  const body = JSON.stringify(value);
  return request(path, { method: "POST", body, headers: { "Content-Type": "application/json" } });
}

export const postForm = (path, form, extra = {}) => request(path, { method: "POST", body: form, headers: extra });
export const remove = async (path) => (await request(path, { method: "DELETE" })).json();

/** Whether the server answers. */
export async function reachable() {
  try {
    return (await fetch(address("/healthz"), { cache: "no-store" })).status < 500;
  } catch {
    return false;
  }
}

/** Who this page is for the server: {needs_token, client}. */
export const session = () => getJson(SESSION);

/** Exchange a token for a cookie, which <img> and <video> send, too; scripts cannot read it. */
export const enter = (token) => postJson(SESSION, { token });

/** Give the cookie back. */
export const leave = () => request(SESSION, { method: "DELETE" });

/** Save a file of the server under a name. */
export function download(path, name) {
  const link = document.createElement("a");
  link.href = address(path);
  link.download = name;
  link.click();
}

/**
 * Server-sent events of an address, over fetch, which tells a refusal from a lost connection (EventSource does not).
 * Yields {event, data}; ends when the server ends, throws NetworkError when the connection breaks.
 */
export async function* events(path, signal) {
  const response = await request(path, { signal, headers: { Accept: "text/event-stream" } });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch (error) {
      if (signal?.aborted) return;
      hooks.connection("lost");
      throw new NetworkError();
    }
    if (part.done) return;
    rest = (rest + part.value).replaceAll("\r\n", "\n");
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const message = parseEvent(block);
      if (message) yield message;
    }
  }
}

function parseEvent(block) {
  let event = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) event = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
  }
  return data.length ? { event, data: JSON.parse(data.join("\n")) } : null;
}
