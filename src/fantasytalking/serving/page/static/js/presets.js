// Presets: one table. A preset sets what it names and puts the other settings that its group names back to the defaults.
// Values may be functions of the default, so that they fit every model.

export const PRESETS = [
  {
    group: "Motion",
    names: ["w_face", "w_body"],
    presets: [
      { title: "Calm", hint: "Little movement, for news and instructions.", settings: { w_face: 0.35, w_body: 0.25 } },
      { title: "Natural", hint: "As the model was made to move.", settings: {} },
      { title: "Lively", hint: "Much expression and movement of the head.", settings: { w_face: 0.85, w_body: 0.85 } },
    ],
  },
  {
    group: "Quality",
    names: ["steps", "longest_side"],
    presets: [
      { title: "Quick look", hint: "Small and fast, to try something out.", settings: { steps: (own) => Math.max(2, Math.round(own / 2)), longest_side: 384 } },
      { title: "Full", hint: "The model's own steps and size.", settings: {} },
      { title: "Fine", hint: "Twice the steps, takes about twice as long.", settings: { steps: (own) => own * 2 } },
    ],
  },
];

/** All values that a preset stands for, by name. */
export function presetValues(group, preset, store) {
  const values = {};
  for (const name of group.names.filter((one) => store.has(one))) {
    const given = preset.settings[name];
    const own = store.default(name);
    values[name] = given === undefined ? own : typeof given === "function" ? given(own) : given;
  }
  return values;
}
