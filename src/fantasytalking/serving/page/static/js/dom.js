// Small helpers to build and find elements. No markup is ever made from text, so nothing that a user or the server says can
// become an element.

/**
 * Make an element.
 * @param {string} tag name, such as "button"
 * @param {object} attributes `on...` are listeners, `class`, `text`, `hidden`, `data` (an object) and attributes by their names;
 *     null and false leave an attribute out
 * @param {...(Node|string|null)} children
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "text") element.textContent = value;
    else if (name === "data") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** Make an element of a drawing. */
export function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Find the element with an id; a page without it is a fault of ours. */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`The page has no element #${id}.`);
  return element;
}

/** An icon of the sprite in icons.svg, hidden from screen readers: the text beside it says the same. */
export function icon(name) {
  const use = draw("use", { href: `static/icons.svg#${name}` });
  return draw("svg", { class: "icon", "aria-hidden": "true", width: 20, height: 20, viewBox: "0 0 24 24" }, use);
}

/** A button with an icon and a text. */
export function button(text, { name = null, kind = "", ...attributes } = {}) {
  return make("button", { type: "button", class: `button ${kind}`.trim(), ...attributes }, name ? icon(name) : null, make("span", { text }));
}

let count = 0;

/** An id that no other element has. */
export function newId(stem) {
  count += 1;
  return `${stem}-${count}`;
}

/** Replace what an element contains. */
export function fill(element, ...children) {
  element.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
}
