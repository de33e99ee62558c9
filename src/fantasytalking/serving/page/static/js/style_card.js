// Presets, the sliders of motion and the head that shows them.

import { byId, fill, make, newId } from "./dom.js";
import { MotionHead } from "./motion_head.js";
import { PRESETS, presetValues } from "./presets.js";
import { same } from "./settings_store.js";

/** Radio buttons of one group of presets; none is chosen while the settings are nobody's preset. */
function presetGroup(group, store) {
  const name = newId("preset");
  const choices = group.presets.map((preset) => {
    const input = make("input", { type: "radio", name, onchange: () => store.apply(presetValues(group, preset, store)) });
    const label = make("label", { class: "choice", title: preset.hint }, input, make("span", { text: preset.title }));
    return { preset, input, label };
  });
  const hint = make("p", { class: "hint preset-hint" });
  const show = () => {
    let text = "Your own settings.";
    for (const { preset, input } of choices) {
      input.checked = Object.entries(presetValues(group, preset, store)).every(([setting, value]) => same(value, store.value(setting)));
      if (input.checked) text = preset.hint;
    }
    hint.textContent = text;
  };
  store.addEventListener("change", show);
  show();
  return make("fieldset", { class: "choices", data: { preset: group.group } }, make("legend", { text: group.group }),
    make("div", { class: "segments" }, ...choices.map(({ label }) => label)), hint);
}

/**
 * Fill the card.
 * @returns {object} places for the sliders, name -> element
 */
export function styleCard(store) {
  fill(byId("presets"), ...PRESETS.filter((group) => group.names.some((name) => store.has(name))).map((group) => presetGroup(group, store)));
  const sliders = make("div", { class: "motion-sliders" });
  const places = {};
  for (const name of ["w_face", "w_body"]) if (store.has(name)) places[name] = sliders;
  byId("motion").hidden = !Object.keys(places).length;
  if (byId("motion").hidden) return places;
  const head = new MotionHead();
  const show = () => head.set(store.value("w_face") ?? 0.5, store.value("w_body") ?? 0.5);
  store.addEventListener("change", (event) => event.detail.name.startsWith("w_") && show());
  const again = make("button", { type: "button", class: "head-button", "aria-label": "Show the movement again", onclick: () => head.play() }, head.element);
  fill(byId("motion"), again, sliders);
  show();
  return places;
}
