// The values of all settings, in one place. Controls show them and change them; whoever cares listens.

/** Whether two values of a setting are the same to the server. */
export function same(a, b) {
  const plain = (value) => (value === undefined || value === "" ? null : value);
  return plain(a) === plain(b) || (typeof a === "number" && typeof b === "number" && Math.abs(a - b) < 1e-9);
}

/**
 * Events: "change" with detail {name}, when a value changed.
 */
export class SettingsStore extends EventTarget {
  #values = new Map();

  /** @param {Array<object>} descriptions entries of GET /v1/settings */
  constructor(descriptions) {
    super();
    this.descriptions = new Map(descriptions.map((one) => [one.name, one]));
    for (const one of descriptions) this.#values.set(one.name, one.default);
  }

  has(name) {
    return this.descriptions.has(name);
  }

  value(name) {
    return this.#values.get(name);
  }

  default(name) {
    return this.descriptions.get(name).default;
  }

  isChanged(name) {
    return !same(this.value(name), this.default(name));
  }

  set(name, value) {
    if (!this.has(name) || same(value, this.value(name))) return;
    this.#values.set(name, value === undefined ? null : value);
    this.dispatchEvent(new CustomEvent("change", { detail: { name } }));
  }

  reset(name) {
    this.set(name, this.default(name));
  }

  resetAll() {
    for (const name of this.descriptions.keys()) this.reset(name);
  }

  /** Take over values by name; other settings keep theirs. Names that this server does not know are left out. */
  apply(values) {
    for (const [name, value] of Object.entries(values)) this.set(name, value);
  }

  /** Take over the defaults of another model; what the user changed stays. */
  redefine(descriptions) {
    for (const one of descriptions.filter(({ name }) => this.has(name))) {
      const own = !this.isChanged(one.name);
      this.descriptions.get(one.name).default = one.default;
      if (own) this.#values.set(one.name, one.default);
      this.dispatchEvent(new CustomEvent("change", { detail: { name: one.name } }));
    }
  }

  /** All values, by name. */
  values() {
    return Object.fromEntries(this.#values);
  }

  /** The values that differ from the defaults, by name. */
  changed() {
    const names = [...this.descriptions.keys()].filter((name) => this.isChanged(name));
    return Object.fromEntries(names.map((name) => [name, this.value(name)]));
  }
}
