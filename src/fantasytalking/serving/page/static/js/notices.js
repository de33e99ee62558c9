// What the page says: a bar for the state of the connection, a quiet region for screen readers, dialogs.

import * as api from "./api.js";
import { byId, fill, icon, make } from "./dom.js";

const RETRY_MS = 3000;

/** Say something to screen readers, when they are free. */
export function announce(text) {
  const region = byId("announcements");
  region.textContent = region.textContent === text ? `${text} ` : text;
}

/** The bar below the header; null hides it. */
export function bar(text, kind = "warning") {
  const element = byId("bar");
  element.hidden = text === null;
  element.className = `bar ${kind}`;
  fill(element, ...(text === null ? [] : [icon(kind === "good" ? "check" : "warning"), make("span", { text })]));
}

/** Keep the bar true to the connection, and call `recovered` when it is back. */
export function watchConnection(recovered) {
  let lost = false;
  const tryAgain = async () => {
    if (!lost) return;
    if (!(await api.reachable())) return void setTimeout(tryAgain, RETRY_MS);
    back();
    recovered();
  };
  const back = () => {
    lost = false;
    bar("The server answers again.", "good");
    setTimeout(() => lost || bar(null), 4000);
  };
  api.hooks.connection = (state) => {
    if (state === "back" || lost) return;
    lost = true;
    bar("The server cannot be reached. Your entries stay; the page tries again every few seconds. Is `fantasytalking serve` running?");
    setTimeout(tryAgain, RETRY_MS);
  };
  addEventListener("online", tryAgain);
}

// No submit button, which Enter in a field would press: the first one of a form.
for (const close of document.querySelectorAll("dialog [data-close]")) close.addEventListener("click", () => close.closest("dialog").close());

/** Open a <dialog>; resolves to its return value when it is closed. The browser moves the focus in and back. */
export function openDialog(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true }));
}

/** Ask for the token until it is right; resolves to whether the page has been let in. */
export async function askToken(reason) {
  const dialog = byId("token-dialog");
  const input = byId("token");
  for (let why = reason; ; ) {
    byId("token-reason").textContent = why;
    input.value = "";
    const answer = await openDialog(dialog);
    if (answer !== "ok") return false;
    try {
      await api.enter(input.value.trim());
      return true;
    } catch (error) {
      why = error.message;
    }
  }
}

/**
 * Show an error in its place, with ways out.
 * @param {HTMLElement} place element with role="alert"
 * @param {string|null} message null takes it away
 * @param {...HTMLElement} ways buttons
 */
export function showError(place, message, ...ways) {
  place.hidden = !message;
  if (message) fill(place, icon("warning"), make("div", {}, make("p", { text: message }), ways.length ? make("div", { class: "ways" }, ...ways) : null));
  else fill(place);
}
