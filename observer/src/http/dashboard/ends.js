// Exit reasons of workers, and the functions that timed-out workers were stuck in.

import { find } from "./dom.js";
import { count } from "./format.js";
import { Table } from "./table.js";

/** The meaning of each reason, and whether it is a sign of trouble. */
const REASONS = {
  timeout: ["no heartbeat for the timeout: its master killed it", true],
  oom: ["killed by the kernel, out of memory", true],
  crash: ["a signal or an exit code that nobody asked for", true],
  boot_error: ["exited before it could serve: the application may not be importable", true],
  unknown: ["the observer does not know the reason", true],
  max_requests: ["served --max-requests requests", false],
  reload: ["replaced by its master, after SIGHUP", false],
  ttou: ["its master reduced the number of workers, after SIGTTOU", false],
  command: ["stopped by its master, after a command of gunicornc", false],
  quit: ["stopped by somebody other than its master", false],
  shutdown: ["its master stopped", false],
};

export const isTrouble = (reason) => REASONS[reason]?.[1] ?? false;

export function endsTables() {
  const ends = new Table(
    find("ends"),
    "Exited workers by reason, since the observer attached",
    [
      { name: "reason", title: "Reason", kind: "text", value: ([reason]) => reason, state: ([reason]) => (isTrouble(reason) ? "bad" : "") },
      { name: "count", title: "Workers", kind: "number", value: ([, n]) => count(n) },
      { name: "meaning", title: "Meaning", kind: "text", value: ([reason]) => REASONS[reason]?.[0] ?? "" },
    ],
    { key: ([reason]) => reason, row: (node, [reason]) => (node.dataset.reason = reason), empty: "No worker has exited" },
  );
  const timeouts = new Table(
    find("timeouts"),
    "Timed-out workers, by the function they were stuck in",
    [
      { name: "stuck_in", title: "Stuck in", kind: "text", value: ([place]) => place || "unknown" },
      { name: "count", title: "Workers", kind: "number", value: ([, n]) => count(n) },
    ],
    { key: ([place]) => place },
  );
  const most = (counts) => Object.entries(counts).filter(([, n]) => n > 0).sort(([, a], [, b]) => b - a);
  return (app) => {
    ends.update(most(app.ends));
    timeouts.update(most(app.timeouts));
  };
}
