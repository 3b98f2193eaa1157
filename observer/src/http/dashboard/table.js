// A table whose rows are kept from one view to the next.

import { element, keyed, mark, say } from "./dom.js";

/**
 * Columns are { name, title, kind, value, show, state }: `kind` is "number" or "text"; `value` gives
 * the text of a cell, or `show` draws into it; `state` gives a class for it. The first column says
 * what a row is of.
 */
export class Table {
  constructor(node, caption, columns, { key, row, empty }) {
    Object.assign(this, { node, columns, key, row, empty });
    const heads = columns.map(({ title, kind, name }) =>
      element("th", { scope: "col", class: kind === "number" ? "number" : "", "data-column": name }, title),
    );
    this.parts = [
      element("caption", { class: "unseen" }, caption),
      element("thead", {}, element("tr", {}, ...heads)),
      element("tbody"),
    ];
    this.body = this.parts[2];
    // What was cut is shown whole when asked.
    this.body.addEventListener("click", ({ target }) => {
      target.closest(".text")?.toggleAttribute("data-whole");
    });
  }

  update(items) {
    if (items.length === 0 && this.empty === undefined) {
      this.node.replaceChildren();
      return;
    }
    if (this.node.firstChild === null) this.node.append(...this.parts);
    if (items.length === 0) {
      if (this.body.firstChild?.dataset.key === "empty") return;
      const cell = element("td", { class: "empty", colspan: this.columns.length }, this.empty);
      this.body.replaceChildren(element("tr", { "data-key": "empty" }, cell));
      return;
    }
    keyed(this.body, items, this.key, () => this.make(), (row, item) => this.fill(row, item));
  }

  make() {
    const cells = this.columns.map(({ name, kind }, at) =>
      element(at === 0 ? "th" : "td", { class: kind ?? "", "data-column": name, scope: at === 0 ? "row" : null }),
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
      if (state !== undefined) mark(cell, "class", `${kind ?? ""} ${state(item) ?? ""}`.trim());
    });
  }
}
