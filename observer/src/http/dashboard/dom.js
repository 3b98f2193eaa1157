// Elements, never made from markup: no text of an observed process is taken for any.

const SVG = "http://www.w3.org/2000/svg";

export const find = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) if (value !== null) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Sets a text only if it is another one: a selection in it stays. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function mark(node, name, value) {
  if (value === null || value === undefined) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/**
 * Makes the children of a node those of the items, in their order. Those that stay are kept, with
 * focus, selection and what is open in them.
 */
export function keyed(parent, items, key, make, update) {
  const old = new Map();
  for (const child of parent.children) old.set(child.dataset.key, child);
  let after = null;
  for (const item of items) {
    const name = String(key(item));
    let child = old.get(name);
    if (child === undefined) {
      child = make(item);
      child.dataset.key = name;
    }
    old.delete(name);
    update(child, item);
    const next = after === null ? parent.firstElementChild : after.nextElementSibling;
    if (child !== next) parent.insertBefore(child, next);
    after = child;
  }
  for (const child of old.values()) child.remove();
}

/** Name and value pairs of a `dl`. `facts` is a list of [key, title, text, raw]. */
export function describe(list, facts) {
  keyed(
    list,
    facts,
    ([name]) => name,
    ([name, title]) => element("div", {}, element("dt", {}, title), element("dd", { "data-value": name })),
    (row, [, , text, raw]) => {
      say(row.lastChild, text);
      mark(row.lastChild, "data-raw", raw);
    },
  );
}
