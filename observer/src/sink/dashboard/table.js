// A table whose rows are kept from one view to the next.

import { element, keyed, mark, say } from "./dom.js";

/**
 * Columns are { name, title, kind, value, show, state }: `kind` is "number" or "text"; `value` gives
 * the text of a cell, or `show` draws into it; `state` gives a class for it.
 */
export class Table {
  constructor(node, caption, columns, { key, row, empty }) {
    Object.assign(this, { columns, key, row, empty });
    const heads = columns.map(({ title, kind, name }) =>
      element("th", { scope: "col", class: kind === "number" ? "number" : "", "data-column": name }, title),
    );
    this.body = element("tbody");
    this.node = node;
    this.head = element("thead", {}, element("tr", {}, ...heads));
    this.caption = caption;
    node.setAttribute("aria-label", caption);
  }

  update(items) {
    if (items.length === 0 && this.empty === undefined) {
      this.node.replaceChildren();
      return;
    }
    if (this.node.firstChild === null) this.node.append(this.head, this.body);
    if (items.length === 0) {
      const cell = element("td", { class: "empty", colspan: this.columns.length }, this.empty);
      this.body.replaceChildren(element("tr", { "data-key": "empty" }, cell));
      return;
    }
    keyed(this.body, items, this.key, () => this.make(), (row, item) => this.fill(row, item));
  }

  make() {
    const cells = this.columns.map(({ name, kind }) =>
      element("td", { class: kind ?? "", "data-column": name }),
    );
    return element("tr", {}, ...cells);
  }

  fill(row, item) {
    this.row?.(row, item);
    this.columns.forEach(({ kind, value, show, state }, at) => {
      const cell = row.children[at];
      if (show !== undefined) show(cell, item);
      else say(cell, value(item));
      // What does not fit is cut: the whole of it is said when asked.
      if (kind === "text") mark(cell, "title", cell.textContent || null);
      if (state !== undefined) cell.className = `${kind ?? ""} ${state(item) ?? ""}`.trim();
    });
  }
}
