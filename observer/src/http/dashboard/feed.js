// The event stream of the daemon, and the state of the connection.

import { find, mark, say } from "./dom.js";
import { seconds } from "./format.js";

/** Seconds of silence until the daemon counts as lost: a stream ends now and then by design. */
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
      showState("live", "live", "");
    });
    // The browser reopens a stream that ended, but not one that was refused.
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED) setTimeout(open, 1000);
    });
  };
  open();
  setInterval(() => {
    const silent = (performance.now() - heard) / 1000;
    if (silent <= PATIENCE) return;
    if (isFirst) showState("lost", "connecting: the daemon is starting, or has too many clients", "");
    else showState("lost", "reconnecting: the daemon does not answer", `data are ${seconds(Math.floor(silent))} old`);
  }, 1000);
}

/** Screen readers announce a change of the state, not of the age. */
function showState(state, text, age) {
  const node = find("connection");
  mark(node, "data-state", state);
  say(node, text);
  say(find("age"), age);
}
