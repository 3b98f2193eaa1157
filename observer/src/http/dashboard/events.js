// What happened to workers, the last first.

import { element, find, keyed } from "./dom.js";
import { clock, seconds, text } from "./format.js";

export function showEvents(events) {
  const shown = events.slice().reverse();
  find("no-events").hidden = shown.length > 0;
  keyed(find("events"), shown, (of) => `${of.time_seconds} ${of.event} ${of.worker_pid}`, make, () => {});
}

// An event does not change any more.
function make(of) {
  const item = element("li", {}, `${clock(of.time_seconds)} worker ${of.worker_pid} ${said(of)}`);
  for (const request of of.requests ?? []) {
    item.append(element("pre", {}, `in progress for ${seconds(request.age_seconds)}: ${text(request.method)} ${text(request.path ?? request.route)}`));
  }
  if (of.stacks?.length > 0) {
    const stacks = of.stacks.map((stack) => element("pre", {}, lines(stack)));
    item.append(element("details", {}, element("summary", {}, "where its threads were"), ...stacks));
  }
  return item;
}

function said(of) {
  if (of.event !== "worker_ended") return "started";
  const how = of.exit_signal !== null ? `signal ${of.exit_signal}` : `exit code ${text(of.exit_code)}`;
  const where = of.stuck_in === null ? "" : `, stuck in ${of.stuck_in}`;
  const by = of.signals.map(({ signal, sender_pid }) => `${signal} from ${sender_pid ?? "the kernel"}`).join(", ");
  const sent = by === "" ? "" : `; it got ${by}`;
  return `ended: ${of.reason}, ${of.restart_type} (${how}${sent}) after ${seconds(of.uptime_seconds)} and ${of.served} requests${where}`;
}

function lines(stack) {
  const request = stack.request;
  const head = request === null ? "a thread:" : `${text(request.method)} ${text(request.path ?? request.route)} for ${seconds(request.age_seconds)}:`;
  const frames = stack.frames.map(({ file, line, function: name }) => `  ${text(file)}:${line ?? "?"} ${text(name)}`);
  return [head, ...frames, ...(stack.is_cut ? ["  …"] : [])].join("\n");
}
