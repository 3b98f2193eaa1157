// Why workers ended, and where those hung that did not beat in time.

import { find } from "./dom.js";
import { count } from "./format.js";
import { Table } from "./table.js";

/** What each reason says; those that nobody asked for are bad. */
const REASONS = {
  timeout: ["its master heard nothing of it for the timeout, and killed it", true],
  oom: ["the kernel killed it for want of memory", true],
  crash: ["a signal or an exit that nobody asked for", true],
  boot_error: ["it ended before it could serve: the application may not be importable", true],
  unknown: ["it is not known why", true],
  max_requests: ["it had served as many requests as --max-requests allows", false],
  reload: ["its master replaced its workers, after SIGHUP", false],
  ttou: ["its master was asked for fewer workers, by SIGTTOU", false],
  quit: ["somebody asked it, and not its master, to stop", false],
  shutdown: ["its master stopped", false],
};

export const isTrouble = (reason) => REASONS[reason]?.[1] ?? false;

export function endsTables() {
  const ends = new Table(
    find("ends"),
    "Workers that ended, by reason, since it is observed",
    [
      { name: "reason", title: "Reason", kind: "text", value: ([reason]) => reason, state: ([reason]) => (isTrouble(reason) ? "bad" : "") },
      { name: "count", title: "Workers", kind: "number", value: ([, n]) => count(n) },
      { name: "meaning", title: "Means", kind: "text", value: ([reason]) => REASONS[reason]?.[0] ?? "" },
    ],
    { key: ([reason]) => reason, row: (node, [reason]) => (node.dataset.reason = reason), empty: "no worker has ended since it is observed" },
  );
  const timeouts = new Table(
    find("timeouts"),
    "Where workers hung that did not beat in time",
    [
      { name: "stuck_in", title: "Hung in", kind: "text", value: ([place]) => place || "an unknown place" },
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
