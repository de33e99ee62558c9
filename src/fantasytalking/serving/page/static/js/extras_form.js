// What is chosen of a run beside the settings: the model, and the profile of speed.

import { byId } from "./dom.js";
import { reveal, settingRow } from "./setting_controls.js";
import { SettingsStore } from "./settings_store.js";

const profileSetting = (profiles) => ({
  name: "profile", title: "Profile", type: "string", default: profiles[0], minimum: null, maximum: null, optional: false, unit: "",
  choices: profiles,
  help: "exact computes every step; balanced skips what changes little; fast compiles, too; turbo needs a model with few-step weights.",
});

function modelSetting(models) {
  const own = models.find((model) => model.default)?.id ?? models[0]?.id ?? null;
  return {
    name: "model", title: "Model", type: "string", default: own, minimum: null, maximum: null, optional: false, unit: "",
    choices: models.map((model) => model.id), help: "The models that this server offers.",
  };
}

/** Make the controls; the result has the same face as SettingsForm. */
export function extrasForm(models, profiles) {
  const store = new SettingsStore([modelSetting(models), profileSetting(profiles)]);
  const rows = new Map([...store.descriptions.values()].map((setting) => [setting.name, settingRow(setting, store)]));
  byId("extras").append(...[...rows.values()].map((row) => row.element));
  return {
    store,
    changed: () => store.changed(),
    has: (name) => rows.has(name),
    apply: (values) => store.apply(values),
    clearErrors: () => rows.forEach((row) => row.showError(null)),
    showError: (name, message) => {
      reveal(rows.get(name).element);
      rows.get(name).showError(message);
      rows.get(name).focus();
    },
  };
}
