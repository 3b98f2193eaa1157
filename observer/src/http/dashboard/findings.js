// Findings: problems that an operator should know about. Each finding brings its own words.

import { element, find, keyed, mark, say } from "./dom.js";
import { clock, count } from "./format.js";

/** For these, the next step is to look at the stack. */
const WANTS_STACK = ["worker_stuck", "heartbeat_late", "only_worker_quitting"];

const key = (of) => `${of.finding} ${of.master_pid} ${of.worker_pid}`;
const target = (of) => (of.worker_pid === null ? `master ${of.master_pid}` : `worker ${of.worker_pid}`);

/** Findings of the last view: only new ones are announced. */
let known = new Set();

/** Findings come with the most urgent first. */
export function showFindings(findings) {
  find("no-findings").hidden = findings.length > 0;
  say(find("no-findings"), "No findings");
  const firsts = findings.filter((of, at) => findings.findIndex((other) => other.finding === of.finding) === at);
  keyed(find("findings"), firsts, (of) => of.finding, group, (item, { finding }) => {
    const all = findings.filter((of) => of.finding === finding);
    say(item.querySelector(".times"), all.length > 1 ? ` ${count(all.length)} times` : "");
    keyed(item.lastChild, all, key, one, fill);
  });
  announce(findings);
}

/** A kind of finding: its words, then where it holds. */
function group({ finding, meaning, advice, urgency }) {
  const head = element("p", {}, element("strong", {}, meaning), element("small", {}, ` ${urgency}`), element("span", { class: "times" }));
  return element("li", { "data-finding": finding, "data-urgency": urgency }, head, element("p", {}, advice), element("ul"));
}

function one(of) {
  const worker = of.worker_pid === null ? "" : `/${of.worker_pid}`;
  const link = element("a", { href: `#/${of.master_pid}${worker}` }, element("bdi", { class: "cut", title: of.app }, of.app), ` ${target(of)}`);
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

/** For screen readers. */
function announce(findings) {
  const added = findings.filter((of) => !known.has(key(of)));
  const ended = [...known].some((name) => !findings.some((of) => key(of) === name));
  known = new Set(findings.map(key));
  const [first] = added;
  if (added.length > 3) say(find("news"), `${count(added.length)} new findings, the first: ${first.meaning}, in ${first.app}`);
  else if (added.length > 0) say(find("news"), added.map((of) => `${of.meaning}, in ${of.app}, ${target(of)}`).join(". "));
  else if (ended && findings.length === 0) say(find("news"), "No findings any more");
  mark(document.body, "data-findings", findings.length);
}
