// What the daemon tells, and whether it still does.

import { find, mark, say } from "./dom.js";
import { seconds } from "./format.js";

/** Seconds without a word after which it counts as lost: streams end and begin anew on purpose. */
const PATIENCE = 5;

export function follow(onHistory, onView) {
  let heard = performance.now();
  let isFirst = true;
  const open = () => {
    const source = new EventSource("api/v1/events");
    source.addEventListener("history", (event) => onHistory(JSON.parse(event.data)));
    source.addEventListener("snapshot", (event) => {
      heard = performance.now();
      isFirst = false;
      onView(JSON.parse(event.data));
      tell("live", "live", "");
    });
    // A stream that ended is opened again by the browser; one that was refused is not.
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED) setTimeout(open, 1000);
    });
  };
  open();
  setInterval(() => {
    const silent = (performance.now() - heard) / 1000;
    if (silent <= PATIENCE) return;
    if (isFirst) tell("lost", "still connecting: the daemon is starting, or too many follow it", "");
    else tell("lost", "reconnecting: the daemon does not answer", `what is shown is ${seconds(Math.floor(silent))} old`);
  }, 1000);
}

/** The state is said aloud when it changes, the age is not. */
function tell(state, text, age) {
  const node = find("connection");
  mark(node, "data-state", state);
  say(node, text);
  say(find("age"), age);
}
