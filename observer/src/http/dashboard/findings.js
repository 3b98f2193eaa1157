// What an operator should know first, in plain words.

import { element, find, keyed, mark, say } from "./dom.js";
import { clock, count } from "./format.js";

/** What each means, and what to do; the first ones are the most urgent. */
const MEANING = {
  worker_stuck: [
    "A request hangs",
    "A worker has been in one request for long; a sync worker serves nobody else meanwhile. Its stack shows the line it is at.",
  ],
  heartbeat_late: [
    "A worker is about to be killed",
    "It has not told its master for most of the timeout that it lives. Look at its stack now; then make that work shorter, move it out of the request, or raise --timeout.",
  ],
  restart_loop: [
    "Workers die again and again",
    "Their reasons are below. oom: a leak, or too many workers for this memory. boot_error: the application cannot be imported. timeout: something hangs.",
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
    "Often a few keep-alive connections of a proxy that all end in one worker. More connections, or --reuse-port, spread them.",
  ],
  memory_grows: [
    "The memory of a worker grows",
    "It may leak. --max-requests with --max-requests-jitter hides it; a memory profile of that worker finds it.",
  ],
};
const URGENCY = Object.keys(MEANING);
/** Of these the next thing to do is a look at the stack. */
const WANTS_STACK = ["worker_stuck", "heartbeat_late"];

const key = (of) => `${of.finding} ${of.master_pid} ${of.worker_pid}`;
const title = (kind) => MEANING[kind]?.[0] ?? kind;
const whose = (of) => (of.worker_pid === null ? `master ${of.master_pid}` : `worker ${of.worker_pid}`);

/** Those that were there before: only what is new is said aloud. */
let known = new Set();

export function showFindings(findings) {
  find("no-findings").hidden = findings.length > 0;
  say(find("no-findings"), "none: nothing is known to be wrong");
  const kinds = [...new Set(findings.map((of) => of.finding))];
  kinds.sort((a, b) => URGENCY.indexOf(a) - URGENCY.indexOf(b));
  keyed(find("findings"), kinds, (kind) => kind, group, (item, kind) => {
    const those = findings.filter((of) => of.finding === kind);
    say(item.querySelector(".times"), those.length > 1 ? ` ${count(those.length)} times` : "");
    keyed(item.lastChild, those, key, one, fill);
  });
  announce(findings);
}

/** One kind: what it means once, then where it is so. */
function group(kind) {
  const head = element("p", {}, element("strong", {}, title(kind)), element("span", { class: "times" }));
  const advice = element("p", {}, MEANING[kind]?.[1] ?? "");
  return element("li", { "data-finding": kind }, head, advice, element("ul"));
}

function one(of) {
  const worker = of.worker_pid === null ? "" : `/${of.worker_pid}`;
  const link = element("a", { href: `#/${of.master_pid}${worker}` }, element("bdi", { class: "cut", title: of.app }, of.app), ` ${whose(of)}`);
  const item = element("li", {}, link, ": ", element("bdi"), element("small"));
  if (WANTS_STACK.includes(of.finding) && of.worker_pid !== null) {
    item.append(" · ", element("code", {}, `gunicorn-observer stack ${of.worker_pid}`));
  }
  return item;
}

function fill(item, of) {
  say(item.children[1], of.evidence);
  say(item.children[2], ` since ${clock(of.since_seconds)}`);
}

function announce(findings) {
  const news = findings.filter((of) => !known.has(key(of)));
  const ended = [...known].some((name) => !findings.some((of) => key(of) === name));
  known = new Set(findings.map(key));
  const [first] = news;
  if (news.length > 3) say(find("news"), `${count(news.length)} new findings, the first: ${title(first.finding)} in ${first.app}`);
  else if (news.length > 0) say(find("news"), news.map((of) => `${title(of.finding)} in ${of.app}, ${whose(of)}`).join(". "));
  else if (ended && findings.length === 0) say(find("news"), "No findings any more");
  mark(document.body, "data-findings", findings.length);
}
