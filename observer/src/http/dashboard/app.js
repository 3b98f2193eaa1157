// The page: what the daemon tells, drawn.

import { appsTable } from "./apps.js";
import { Charts } from "./charts.js";
import { describe, element, find, keyed, mark, say } from "./dom.js";
import { showEvents } from "./events.js";
import { follow } from "./feed.js";
import { showFindings } from "./findings.js";
import { bytes, count, date, rate, seconds, text } from "./format.js";
import { Past } from "./past.js";
import { appTables } from "./tables.js";
import { startTheme } from "./theme.js";

const past = new Past();
const charts = new Charts(find("charts"));
const showApps = appsTable(past, (app) => app.master_pid === shown);
const showTables = appTables();
let latest = null;
/** The master that is shown. */
let shown = null;

/** The master and the worker that the address names: `#/MASTER` or `#/MASTER/WORKER`. */
function named() {
  const [, master, worker] = location.hash.match(/^#\/(\d+)(?:\/(\d+))?$/) ?? [];
  return { master: Number(master) || null, worker: Number(worker) || null };
}

/** The one that the address names, else the one that is shown, else the first with a finding. */
function chosen({ apps, findings }) {
  const live = apps.filter((app) => !app.ended);
  const troubled = (app) => findings.some((of) => of.master_pid === app.master_pid);
  const is = (pid) => (app) => app.master_pid === pid;
  return apps.find(is(named().master)) ?? apps.find(is(shown)) ?? live.find(troubled) ?? live[0] ?? apps[0];
}

function draw() {
  if (latest === null) return;
  const view = latest;
  const app = chosen(view);
  if (app?.master_pid !== shown) {
    shown = app?.master_pid ?? null;
    charts.reset();
  }
  showTotals(view);
  showCoverage(view);
  showFindings(view.findings);
  showApps(view);
  find("app").hidden = app === undefined;
  const { master } = named();
  find("gone").hidden = master === null || master === app?.master_pid;
  say(find("gone"), `Master ${master} is not there any more.`);
  if (app !== undefined) showApp(app, view);
  const { version, cpu_seconds, resident_bytes } = view.observer;
  say(find("about"), `gunicorn-observer ${version}: as of ${date(view.time_seconds)}; uses ${bytes(resident_bytes)}, ${seconds(cpu_seconds)} of processor time since it started`);
}

function showApp(app, view) {
  const section = find("app");
  mark(section, "data-master", app.master_pid);
  const [name, pid] = find("app-title").children;
  say(name, app.app);
  mark(name, "title", app.app);
  say(pid, `master ${app.master_pid}${app.ended ? ", ended" : ""}`);
  describe(find("facts"), [
    ["level", "observed", app.level_reason ? `${text(app.level)}: ${app.level_reason}` : text(app.level)],
    ["requests_total", "requests", count(app.requests_total), app.requests_total],
    ["errors_total", "errors", count(app.errors_total), app.errors_total],
    ["worker_class", "class", text(app.worker_class)],
    ["workers", "workers", `${app.workers_live} of ${text(app.workers_wanted)}`],
    ["threads", "threads each", text(app.threads)],
    ["timeout", "timeout", app.timeout_seconds === 0 ? "none" : seconds(app.timeout_seconds)],
    ["gunicorn_version", "Gunicorn", text(app.gunicorn_version)],
    ["python_version", "Python", text(app.python_version)],
    ["bind", "listens on", text(app.bind.join(" "))],
    ["started", "up", seconds(view.time_seconds - app.started_seconds)],
    ...(app.container_id ? [["container", "container", app.container_id.slice(0, 12)]] : []),
    ...(app.pod_uid ? [["pod", "pod", podName(app)]] : []),
    ...(app.node ? [["node", "node", app.node]] : []),
    ...(app.workload ? [["workload", "workload", `${app.workload_kind} ${app.workload}`]] : []),
  ]);
  const points = past.of(app.master_pid);
  document.body.dataset.points = points.length;
  // The last one is not over yet.
  charts.update(past, points.length > 1 ? points.slice(0, -1) : points);
  showTables(app, named().worker);
  showEvents(view.events.filter((event) => event.master_pid === app.master_pid));
}

/** As Kubernetes calls it, else its uid. */
function podName(app) {
  const names = [app.namespace, app.pod, app.container].filter((name) => name);
  return app.pod ? names.join("/") : app.pod_uid;
}

function showTotals({ apps, findings }) {
  const live = apps.filter((app) => !app.ended);
  const sum = (of) => live.reduce((total, app) => total + of(app), 0);
  describe(find("totals"), [
    ["apps", "apps", count(live.length), live.length],
    ["workers", "workers", count(sum((app) => app.workers_live))],
    ["rate", "requests", rate(sum((app) => app.now.requests_per_second))],
    ["errors", "errors", rate(sum((app) => app.now.errors_per_second))],
    ["in_flight", "in flight", count(sum((app) => app.in_flight))],
    ["findings", "findings", count(findings.length), findings.length],
  ]);
}

/** What is lost, and what is not covered. */
function showCoverage({ observer }) {
  const lost = Object.entries(observer.lost).map(([cause, n]) => [cause, `lost: ${count(n)} by ${cause}; totals are lower bounds`]);
  const limited = observer.limited.map(({ pid, app, level, reason }) => [pid, `master ${pid} is observed at the level ${level}: ${reason} · `, app]);
  const all = [...lost, ...limited];
  find("coverage").hidden = all.length === 0;
  const list = find("coverage").querySelector("ul");
  const make = () => element("li", {}, element("span"), element("bdi", { class: "cut" }));
  keyed(list, all, ([key]) => key, make, (item, [, said, app]) => {
    say(item.firstChild, said);
    say(item.lastChild, app ?? "");
  });
}

startTheme(() => {
  charts.reset();
  draw();
});
addEventListener("hashchange", () => {
  const { master, worker } = named();
  if (master === null) return;
  draw();
  const row = worker === null ? null : find("workers").querySelector(`[data-worker="${worker}"]`);
  (row ?? find("app-title")).focus({ preventScroll: true });
  (row ?? find("app")).scrollIntoView({ block: row === null ? "start" : "center" });
});
// The address stays that of the app.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  find("apps-title").focus();
});
follow(
  (history) => past.load(history),
  (view) => {
    past.follow(view);
    latest = view;
    // A page that nobody sees is not drawn.
    if (!document.hidden) draw();
  },
);
addEventListener("visibilitychange", draw);
