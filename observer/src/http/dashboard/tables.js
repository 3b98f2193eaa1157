// The tables of one app.

import { element, find, mark, say, svg } from "./dom.js";
import { bytes, clock, count, percent, rate, seconds, share, text } from "./format.js";
import { meter } from "./apps.js";
import { endsTables, isTrouble } from "./ends.js";
import { Table } from "./table.js";

const number = (name, title, value, state) => ({ name, title, kind: "number", value, state });
const words = (name, title, value, state) => ({ name, title, kind: "text", value, state });

const PHASES = ["queue", "dispatch", "read", "app", "write"];
const BAR = { width: 220, height: 14 };

const path = (request) => `${text(request.method)} ${text(request.path ?? request.route)}`;

/** The state of a worker, or its exit. */
function state(worker) {
  if (!worker.ended) return text(worker.state);
  const how = worker.exit_signal !== null ? `signal ${worker.exit_signal}` : `code ${text(worker.exit_code)}`;
  return `exited: ${text(worker.reason)} (${how})`;
}

/** The age of a heartbeat as a share of the timeout. */
function heartbeat(worker, timeout) {
  const age = worker.heartbeat_age_seconds;
  if (age === null || !timeout) return null;
  return Math.min(1, age / timeout);
}

/** A bar with a part for the mean of each phase, and the values. */
function phases(cell, of, longest) {
  if (cell.firstChild === null) {
    const parts = PHASES.map((phase) => svg("rect", { class: `phase-${phase}`, y: 0, height: BAR.height }, svg("title")));
    cell.append(svg("svg", { class: "phases", viewBox: `0 0 ${BAR.width} ${BAR.height}`, role: "img" }, ...parts), element("small"));
  }
  let left = 0;
  const values = [];
  PHASES.forEach((phase, at) => {
    const value = of[`${phase}_seconds`];
    const width = value === null ? 0 : (BAR.width * value) / longest;
    const part = cell.firstChild.children[at];
    mark(part, "x", left.toFixed(1));
    mark(part, "width", width.toFixed(1));
    say(part.firstChild, `${phase} ${seconds(value)}`);
    left += width;
    if (value !== null) values.push(`${phase} ${seconds(value)}`);
  });
  mark(cell.firstChild, "aria-label", `phases: ${values.join(", ")}`);
  say(cell.lastChild, values.join(" · "));
}

const whole = (of) => PHASES.reduce((sum, phase) => sum + (of[`${phase}_seconds`] ?? 0), 0);

function key(node) {
  if (node.querySelector(".key") !== null) return;
  for (const phase of PHASES) node.append(" ", element("span", { class: `key key-${phase}` }, phase));
}

export function appTables() {
  let app = null;
  /** The worker in the address. */
  let current = null;
  let longest = 1;
  const workers = new Table(
    find("workers"),
    "Workers",
    [
      number("pid", "PID", (of) => String(of.pid)),
      words("class", "Class", (of) => of.class),
      words("state", "State", state, (of) => (of.ended && isTrouble(of.reason) ? "bad" : "")),
      number("in_flight", "In flight", (of) => count(of.in_flight)),
      number("oldest", "Oldest", (of) => seconds(of.oldest_request?.age_seconds), (of) => (of.oldest_request?.age_seconds > 10 ? "bad" : "")),
      { name: "busy", title: "Busy", kind: "number", show: (cell, of) => meter(cell, of.busy, share(of.busy)) },
      number("rate", "Rate", (of) => rate(of.requests_per_second)),
      number("requests", "Requests", (of) => count(of.requests_total)),
      number("memory", "Memory", (of) => bytes(of.memory_bytes)),
      number("cpu", "CPU", (of) => percent(of.cpu_percent)),
      {
        name: "heartbeat",
        title: "Heartbeat",
        kind: "number",
        show: (cell, of) => {
          const at = heartbeat(of, app.timeout_seconds);
          meter(cell, at, `${seconds(of.heartbeat_age_seconds)} of ${seconds(app.timeout_seconds)}`);
          mark(cell, "class", at > 0.8 ? "number bad" : "number");
        },
      },
      number("threads", "Threads", (of) => count(of.threads)),
      number("fds", "Open files", (of) => count(of.open_fds)),
      number("uptime", "Uptime", (of) => seconds(of.uptime_seconds)),
    ],
    {
      key: (of) => of.id + of.pid,
      row: (node, of) => {
        mark(node, "data-worker", of.pid);
        mark(node, "tabindex", -1);
        mark(node, "aria-current", of.pid === current ? "true" : null);
        mark(node, "class", of.ended ? "ended" : null);
      },
    },
  );
  const stuck = new Table(
    find("stuck"),
    "Requests in progress for more than a second",
    [
      number("age", "Age", (of) => seconds(of.request.age_seconds), (of) => (of.request.age_seconds > 10 ? "bad" : "")),
      words("request", "Request", (of) => path(of.request)),
      words("route", "Route", (of) => text(of.request.route)),
      number("worker", "Worker", (of) => String(of.pid)),
    ],
    { key: (of) => of.pid, empty: "No request takes more than a second" },
  );
  const routes = new Table(
    find("routes"),
    "Routes",
    [
      words("method", "Method", (of) => of.method),
      words("route", "Route", (of) => text(of.route)),
      number("requests", "Requests", (of) => count(of.requests)),
      number("errors", "Errors", (of) => count(of.errors), (of) => (of.errors > 0 ? "bad" : "")),
      number("p50", "p50", (of) => seconds(of.p50_seconds)),
      number("p95", "p95", (of) => seconds(of.p95_seconds)),
      number("p99", "p99", (of) => seconds(of.p99_seconds)),
      number("total", "Total time", (of) => seconds(of.total_seconds)),
      { name: "phases", title: "Mean phases", show: (cell, of) => phases(cell, of.phases, longest) },
    ],
    { key: (of) => `${of.method} ${of.route}`, row: (node, of) => mark(node, "data-route", of.route), empty: "No requests lately" },
  );
  const errors = new Table(
    find("errors"),
    "Errors",
    [
      number("count", "Count", (of) => count(of.count)),
      number("status", "Status", (of) => text(of.status)),
      words("type", "Exception", (of) => text(of.error_type)),
      words("raised", "Raised in", (of) => text(of.raised_in)),
      words("route", "Route", (of) => `${of.method} ${text(of.endpoint)}`),
    ],
    { key: (of) => [of.method, of.endpoint, of.status, of.error_type, of.raised_in].join(" "), empty: "No errors" },
  );
  const slowest = new Table(
    find("slowest"),
    "Slowest requests",
    [
      number("duration", "Duration", (of) => seconds(of.duration_seconds)),
      words("request", "Request", path),
      number("status", "Status", (of) => text(of.status)),
      number("worker", "Worker", (of) => String(of.worker_pid)),
      number("time", "Finished", (of) => clock(of.time_seconds)),
      { name: "phases", title: "Phases", show: (cell, of) => phases(cell, of.phases, whole(of.phases) || 1) },
    ],
    { key: (of) => `${of.time_seconds} ${of.worker_pid}`, empty: "No requests lately" },
  );
  const listeners = new Table(
    find("listeners"),
    "Listeners",
    [
      words("address", "Address", (of) => of.address),
      number("backlog", "Backlog", (of) => count(of.backlog), (of) => (of.backlog > 0 ? "warn" : "")),
      number("limit", "Backlog limit", (of) => count(of.limit)),
      number("drops", "Dropped", (of) => count(of.drops), (of) => (of.drops > 0 ? "bad" : "")),
    ],
    { key: (of) => of.address, empty: "No listeners known" },
  );
  const ends = endsTables();
  key(find("routes-title"));
  return (of, worker) => {
    app = of;
    current = worker;
    longest = Math.max(1e-9, ...of.routes.map((route) => whole(route.phases)));
    workers.update(of.workers);
    const pending = of.workers
      .filter((worker) => worker.oldest_request !== null && worker.oldest_request.age_seconds > 1)
      .map((worker) => ({ pid: worker.pid, request: worker.oldest_request }));
    stuck.update(pending.sort((a, b) => b.request.age_seconds - a.request.age_seconds));
    routes.update(of.routes);
    errors.update(of.errors);
    slowest.update(of.slowest);
    listeners.update(of.listeners);
    const rest = (n, what) => (n > 0 ? `and ${count(n)} more ${what}; the metrics have all` : "");
    say(find("routes-rest"), rest(of.routes_left_off, "routes"));
    say(find("errors-rest"), rest(of.errors_left_off, "kinds of errors"));
    ends(of);
  };
}
