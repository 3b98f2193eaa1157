// What an operator should know first, in plain words.

import { element, find, keyed, say } from "./dom.js";
import { clock } from "./format.js";

/** What each means, and what to do. */
const MEANING = {
  worker_stuck: [
    "A request hangs",
    "A worker has been in one request for long. `gunicorn-observer stack PID` shows the line it is at. A sync worker serves nobody else meanwhile.",
  ],
  heartbeat_late: [
    "A worker is about to be killed",
    "It has not told its master for most of the timeout that it lives. Look at its stack now; then make that work shorter, move it out of the request, or raise --timeout.",
  ],
  restart_loop: [
    "Workers die again and again",
    "See their reasons below. Out of memory: a leak, or too many workers for this memory. Boot error: the application does not import. Timeout: something hangs.",
  ],
  backlog_growing: [
    "More and more connections wait",
    "Requests come faster than they are served. Add workers or threads, or find what made requests slower: see the phases of the routes.",
  ],
  saturated: [
    "All workers are busy, and connections wait",
    "Each new request waits for a free worker. Add workers or threads, or make the routes that take most of the time faster.",
  ],
  one_worker_busy: [
    "One worker gets nearly all requests",
    "Often a few keep-alive connections of a proxy that all end in one worker. More connections, or reuse_port, spread them.",
  ],
  memory_grows: [
    "The memory of a worker grows",
    "It may leak. max_requests with max_requests_jitter hides it; a memory profile of that worker finds it.",
  ],
};

export function showFindings(findings) {
  find("no-findings").hidden = findings.length > 0;
  say(find("no-findings"), "none: nothing is known to be wrong");
  keyed(
    find("findings"),
    findings,
    (of) => `${of.finding} ${of.master_pid} ${of.worker_pid}`,
    make,
    (item, of) => {
      const [title] = MEANING[of.finding] ?? [of.finding];
      const [head, evidence] = item.children;
      say(head.firstChild, title);
      const worker = of.worker_pid === null ? "" : `, worker ${of.worker_pid}`;
      say(head.lastChild, `${of.app} (${of.master_pid})${worker}`);
      say(evidence, `${of.evidence}; since ${clock(of.since_seconds)}`);
    },
  );
}

function make(of) {
  const [, advice] = MEANING[of.finding] ?? ["", ""];
  const link = element("a", { href: `#/${of.master_pid}` });
  const head = element("p", {}, element("strong"), " in ", link);
  const item = element("li", {}, head, element("p"), element("p", { class: "quiet" }, advice));
  item.dataset.finding = of.finding;
  return item;
}
