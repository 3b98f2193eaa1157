// All apps, one row each.

import { element, find, mark, say, svg } from "./dom.js";
import { count, rate, seconds, share } from "./format.js";
import { Table } from "./table.js";

const SPARK = { width: 100, height: 20 };

/** Requests over the last fifteen minutes as a line. */
export function spark(cell, points, kept, now) {
  if (cell.firstChild === null) {
    const line = svg("polyline", {});
    cell.append(svg("svg", { class: "spark", viewBox: `0 0 ${SPARK.width} ${SPARK.height}`, "aria-hidden": "true" }, line));
  }
  const most = Math.max(1, ...points.map((point) => point.requests));
  const x = (point) => SPARK.width * (1 - (now - point.time_seconds) / kept);
  const y = (point) => SPARK.height - 1 - (SPARK.height - 2) * (point.requests / most);
  // The last one is not over yet.
  const line = points.slice(0, -1).map((point) => `${x(point).toFixed(1)},${y(point).toFixed(1)}`);
  mark(cell.firstChild.firstChild, "points", line.join(" "));
}

export function appsTable(past, isChosen) {
  let now = 0;
  const number = (name, title, value, state) => ({ name, title, kind: "number", value, state });
  const columns = [
    {
      name: "app",
      title: "App",
      kind: "text",
      show: (cell, app) => {
        if (cell.firstChild === null) cell.append(element("a", { class: "cut", href: `#/${app.master_pid}` }), " ", element("small"));
        say(cell.firstChild, app.app);
        const level = app.level && app.level !== "full" ? `, level ${app.level}` : "";
        say(cell.lastChild, `${app.master_pid}${app.ended ? ", ended" : ""}${level}`);
      },
    },
    number("rate", "Requests", (app) => rate(app.now.requests_per_second)),
    number("errors", "Errors", (app) => rate(app.now.errors_per_second), (app) => (app.now.errors_per_second > 0 ? "bad" : "")),
    {
      name: "spark",
      title: "15 minutes",
      show: (cell, app) => spark(cell, past.of(app.master_pid), past.kept, now),
    },
    number("p50", "p50", (app) => seconds(app.now.p50_seconds)),
    number("p95", "p95", (app) => seconds(app.now.p95_seconds)),
    number("p99", "p99", (app) => seconds(app.now.p99_seconds)),
    {
      name: "utilisation",
      title: "Busy",
      kind: "number",
      show: (cell, app) => meter(cell, app.now.utilisation, share(app.now.utilisation)),
    },
    number("queue", "Queue p95", (app) => seconds(app.now.queue_p95_seconds)),
    number("in_flight", "In flight", (app) => count(app.in_flight)),
    number("oldest", "Oldest", (app) => seconds(app.oldest_request?.age_seconds), (app) => (app.oldest_request?.age_seconds > 10 ? "bad" : "")),
    number("workers", "Workers", (app) => `${app.workers_live}${app.workers_wanted === null ? "" : ` of ${app.workers_wanted}`}`,
      (app) => (app.workers_wanted !== null && app.workers_live < app.workers_wanted && !app.ended ? "warn" : "")),
  ];
  const row = (node, app) => {
    mark(node, "data-master", app.master_pid);
    mark(node, "aria-current", isChosen(app) ? "true" : null);
    mark(node, "class", app.ended ? "ended" : null);
  };
  const table = new Table(find("apps"), "Apps: rates and percentiles of the last minute", columns, {
    key: (app) => app.master_pid,
    row,
  });
  return (view) => {
    now = view.time_seconds;
    find("no-apps").hidden = view.apps.length > 0;
    table.update(view.apps);
  };
}

/** A bar and its value. */
export function meter(cell, value, text) {
  if (cell.firstChild === null) {
    cell.append(element("meter", { min: 0, max: 1, high: 0.9, "aria-hidden": "true" }), element("span"));
  }
  cell.firstChild.hidden = value === null || value === undefined;
  if (value !== null && value !== undefined) cell.firstChild.value = value;
  say(cell.lastChild, text);
}
