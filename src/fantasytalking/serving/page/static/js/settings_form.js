// The form of all settings: groups of rows, a search, how many are changed.

import { button, byId, fill, make } from "./dom.js";
import { reveal, settingRow } from "./setting_controls.js";

export class SettingsForm {
  #rows = new Map();
  #groups = [];

  /**
   * @param {SettingsStore} store
   * @param {object} apart places for settings that stand elsewhere in the page, name -> element
   */
  constructor(store, apart = {}) {
    this.store = store;
    const groups = new Map();
    for (const setting of store.descriptions.values()) {
      const row = settingRow(setting, store);
      this.#rows.set(setting.name, row);
      if (apart[setting.name]) {
        apart[setting.name].append(row.element);
        continue;
      }
      const name = setting.group || "More";
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push(row);
    }
    for (const [name, rows] of groups) this.#groups.push(this.#group(name, rows));
    fill(byId("settings-groups"), ...this.#groups.map((group) => group.element));
    byId("setting-filter").addEventListener("input", (event) => this.#filter(event.target.value));
    byId("reset-settings").addEventListener("click", () => store.resetAll());
    store.addEventListener("change", () => this.#count());
    this.#count();
  }

  #group(name, rows) {
    const count = make("span", { class: "count" });
    const body = make("div", { class: "settings-grid" }, ...rows.map((row) => row.element));
    const element = make("details", { class: "settings-group" }, make("summary", {}, make("span", { text: name }), count), body);
    return { element, rows, count };
  }

  #count() {
    const changed = Object.keys(this.store.changed());
    for (const { rows, count } of this.#groups) {
      const n = rows.filter((row) => changed.includes(row.setting.name)).length;
      count.textContent = n ? `${n} changed` : "";
    }
    byId("changed-count").textContent = changed.length ? `${changed.length} changed` : "";
    byId("reset-settings").disabled = changed.length === 0;
  }

  #filter(text) {
    const words = text.trim().toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const { element, rows } of this.#groups) {
      let inGroup = 0;
      for (const { element: row, setting } of rows) {
        const all = `${setting.name} ${setting.title} ${setting.help}`.toLowerCase();
        row.hidden = !words.every((word) => all.includes(word));
        inGroup += row.hidden ? 0 : 1;
      }
      element.hidden = inGroup === 0;
      if (words.length) element.open = inGroup > 0;
      found += inGroup;
    }
    byId("filter-result").textContent = words.length ? `${found} settings found` : "";
  }

  has(name) {
    return this.#rows.has(name);
  }

  /** Show an error at its setting, with the way back, and go there. */
  showError(name, message) {
    const row = this.#rows.get(name);
    byId("setting-filter").value = "";
    this.#filter("");
    reveal(row.element);
    row.showError(message);
    row.element.querySelector(".error").append(" ", button("Use the default", {
      kind: "link",
      onclick: () => {
        row.showError(null);
        this.store.reset(name);
        row.focus();
      },
    }));
    row.focus();
  }

  clearErrors() {
    for (const row of this.#rows.values()) row.showError(null);
  }
}
