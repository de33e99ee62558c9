// One form control for one setting, made from its description (GET /v1/settings). Each has `element` and keeps itself up to date.

import { icon, make, newId } from "./dom.js";
import { randomSeed } from "./video_request.js";
import { shown } from "./words.js";

const SLIDER_STEPS = 1000;
const WIDE = 100;
const NO_SLIDER_FROM = 1e6;

const isInteger = (setting) => setting.type === "integer";
const isNumber = (setting) => isInteger(setting) || setting.type === "number";

/** Whether a slider helps: not where nothing is a value, nor where the range is too wide to hit anything. */
function hasSlider(setting) {
  const { minimum, maximum, default: own } = setting;
  return minimum !== null && maximum !== null && own !== null && !setting.optional && maximum - minimum < NO_SLIDER_FROM;
}

/** Position 0..1000 of a value on its slider, and back; wide ranges are logarithmic. */
function scaleOf({ minimum, maximum, type }) {
  const log = minimum > 0 && maximum / minimum >= WIDE;
  const [low, high] = log ? [Math.log(minimum), Math.log(maximum)] : [minimum, maximum];
  const round = (value) => {
    if (type === "integer") return Math.round(value);
    const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.max(maximum - minimum, 1e-9))));
    return Number(value.toFixed(Math.min(digits, 3)));
  };
  return {
    position: (value) => (((log ? Math.log(value) : value) - low) / (high - low)) * SLIDER_STEPS,
    value: (position) => {
      const at = low + (position / SLIDER_STEPS) * (high - low);
      return Math.min(maximum, Math.max(minimum, round(log ? Math.exp(at) : at)));
    },
  };
}

function numberControl(setting, store, ids) {
  const number = make("input", {
    id: ids.control, type: "number", name: setting.name, min: setting.minimum, max: setting.maximum,
    step: isInteger(setting) ? 1 : "any", placeholder: setting.optional ? "not set" : null, "aria-describedby": ids.described,
    inputmode: isInteger(setting) ? "numeric" : "decimal", autocomplete: "off",
  });
  number.addEventListener("change", () => {
    if (number.value !== "") store.set(setting.name, number.valueAsNumber);
    else if (!number.validity.badInput) store.set(setting.name, setting.optional ? null : setting.default);
    show();
  });
  const scale = hasSlider(setting) ? scaleOf(setting) : null;
  const slider = scale && make("input", {
    type: "range", min: 0, max: SLIDER_STEPS, step: "any", "aria-label": setting.title, "aria-describedby": ids.help,
    oninput: () => store.set(setting.name, scale.value(slider.valueAsNumber)),
    onkeydown: (event) => {
      const by = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10 }[event.key];
      if (!by) return;
      event.preventDefault();
      const now = store.value(setting.name);
      const next = scale.value(slider.valueAsNumber + by * (SLIDER_STEPS / 100));
      store.set(setting.name, isInteger(setting) && next === now ? Math.min(setting.maximum, Math.max(setting.minimum, now + Math.sign(by))) : next);
    },
  });
  function show() {
    const value = store.value(setting.name);
    number.value = value ?? "";
    if (!slider) return;
    slider.value = scale.position(value);
    slider.setAttribute("aria-valuetext", [value, setting.unit].filter(Boolean).join(" "));
  }
  const dice = setting.name === "seed" && make("button", {
    type: "button", class: "button quiet", "aria-label": "A random seed", title: "A random seed",
    onclick: () => store.set("seed", randomSeed()),
  }, icon("dice"));
  return { parts: [slider, number, dice].filter(Boolean), show, input: number };
}

function choiceControl(setting, store, ids) {
  const select = make("select", { id: ids.control, name: setting.name, "aria-describedby": ids.described });
  if (setting.optional) select.append(make("option", { value: "", text: "not set" }));
  for (const choice of setting.choices) select.append(make("option", { value: choice, text: choice }));
  select.addEventListener("change", () => store.set(setting.name, select.value === "" ? null : select.value));
  const show = () => (select.value = store.value(setting.name) ?? "");
  return { parts: [select], show, input: select };
}

function switchControl(setting, store, ids) {
  const box = make("input", { id: ids.control, type: "checkbox", name: setting.name, "aria-describedby": ids.described });
  box.addEventListener("change", () => store.set(setting.name, box.checked));
  return { parts: [box], show: () => (box.checked = Boolean(store.value(setting.name))), input: box };
}

function textControl(setting, store, ids) {
  const text = make("textarea", { id: ids.control, name: setting.name, rows: 2, "aria-describedby": ids.described });
  text.addEventListener("input", () => store.set(setting.name, text.value));
  const show = () => {
    const value = store.value(setting.name) ?? "";
    if (text.value !== value) text.value = value;
  };
  return { parts: [text], show, input: text };
}

function controlFor(setting, store, ids) {
  if (setting.choices?.length) return choiceControl(setting, store, ids);
  if (setting.type === "boolean") return switchControl(setting, store, ids);
  return isNumber(setting) ? numberControl(setting, store, ids) : textControl(setting, store, ids);
}

/**
 * The row of a setting: label, mark when changed, control with unit, reset, hint, place for an error.
 * @returns {{element: HTMLElement, setting: object, showError: function(string|null), focus: function()}}
 */
export function settingRow(setting, store) {
  const ids = { control: newId(`setting-${setting.name}`), help: newId("help"), error: newId("error") };
  ids.described = `${ids.help} ${ids.error}`;
  const control = controlFor(setting, store, ids);
  const mark = make("span", { class: "mark", text: "changed" });
  const reset = make("button", {
    type: "button", class: "button quiet reset", "aria-label": `Reset ${setting.title}`, title: `Back to ${shown(setting.default)}`,
    onclick: () => {
      store.reset(setting.name);
      control.input.focus();
    },
  }, icon("reset"));
  const error = make("p", { class: "error", id: ids.error });
  const element = make("div", { class: "setting", data: { setting: setting.name, type: setting.choices?.length ? "choice" : setting.type } },
    make("div", { class: "setting-head" }, make("label", { for: ids.control, text: setting.title }), mark, reset),
    make("div", { class: "setting-control" }, ...control.parts, setting.unit ? make("span", { class: "unit", text: setting.unit }) : null),
    make("p", { class: "hint", id: ids.help, text: setting.help }), error);
  const showError = (message) => {
    error.textContent = message ?? "";
    if (message) control.input.setAttribute("aria-invalid", "true");
    else control.input.removeAttribute("aria-invalid");
  };
  const show = () => {
    const changed = store.isChanged(setting.name);
    control.show();
    element.classList.toggle("changed", changed);
    reset.disabled = !changed;
    showError(null);
  };
  store.addEventListener("change", (event) => event.detail.name === setting.name && show());
  show();
  return { element, setting, showError, focus: () => control.input.focus() };
}

/** Open every <details> around an element, so that it can be seen. */
export function reveal(element) {
  for (let at = element; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
}
