// Starts and exits of workers, and exits of masters and dirty pools, the latest first.

import { element, find, keyed } from "./dom.js";
import { clock, seconds, text } from "./format.js";

export function showEvents(events) {
  const shown = events.slice().reverse();
  find("no-events").hidden = shown.length > 0;
  keyed(find("events"), shown, (of) => `${of.time_seconds} ${of.event} ${of.worker_pid ?? of.master_pid}`, make, () => {});
}

// An event never changes.
function make(of) {
  const item = element("li", {}, `${clock(of.time_seconds)} ${process(of)} ${summary(of)}`);
  for (const request of of.requests ?? []) {
    item.append(element("pre", {}, `in progress for ${seconds(request.age_seconds)}: ${text(request.method)} ${text(request.path ?? request.route)}`));
  }
  if (of.stacks?.length > 0) {
    const stacks = of.stacks.map((stack) => element("pre", {}, lines(stack)));
    item.append(element("details", {}, element("summary", {}, "stacks of its threads"), ...stacks));
  }
  return item;
}

function process(of) {
  if (of.worker_pid === null) return `master ${of.master_pid}`;
  return of.event === "dirty_worker_ended" ? `${text(of.worker_class)} ${of.worker_pid}` : `worker ${of.worker_pid}`;
}

function summary(of) {
  if (of.event === "worker_started") return "started";
  const how = of.exit_signal !== null ? `signal ${of.exit_signal}` : `exit code ${text(of.exit_code)}`;
  const stuck = of.stuck_in === null ? "" : `, stuck in ${of.stuck_in}`;
  const failed = of.failure === null ? "" : `, ${text(of.failure.error.name)} in ${of.failure.called_from ?? of.failure.raised_in}`;
  const where = stuck + failed;
  const by = of.signals.map(({ signal, sender_pid }) => `${signal} by ${sender_pid ?? "the kernel"}`).join(", ");
  const sent = by === "" ? "" : `; signals: ${by}`;
  const served = of.event === "dirty_worker_ended" ? "" : ` and ${of.served} requests`;
  return `exited: ${of.reason}, ${of.restart_type} (${how}${sent}) after ${seconds(of.uptime_seconds)}${served}${where}`;
}

function lines(stack) {
  const request = stack.request;
  const head = request === null ? "thread:" : `${text(request.method)} ${text(request.path ?? request.route)} for ${seconds(request.age_seconds)}:`;
  const frames = stack.frames.map(({ file, line, function: name }) => `  ${text(file)}:${line ?? "?"} ${text(name)}`);
  return [head, ...frames, ...(stack.is_cut ? ["  …"] : [])].join("\n");
}
