// What the daemon tells, and whether it still does.

import { find, mark, say } from "./dom.js";
import { seconds } from "./format.js";

/** Seconds without a word after which it counts as lost. */
const PATIENCE = 5;

export function follow(onHistory, onView) {
  let heard = null;
  let source;
  const open = () => {
    source = new EventSource("api/v1/events");
    source.addEventListener("history", (event) => onHistory(JSON.parse(event.data)));
    source.addEventListener("snapshot", (event) => {
      heard = performance.now();
      onView(JSON.parse(event.data));
      tell("live", "live");
    });
    // A stream that ended is opened again by the browser; one that was refused is not.
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED) setTimeout(open, 1000);
    });
  };
  open();
  setInterval(() => {
    const silent = heard === null ? null : (performance.now() - heard) / 1000;
    if (silent !== null && silent > PATIENCE) {
      tell("lost", `the daemon does not answer: what is shown is ${seconds(silent)} old`);
    }
  }, 1000);
}

function tell(state, text) {
  const node = find("connection");
  mark(node, "data-state", state);
  say(node, text);
}
