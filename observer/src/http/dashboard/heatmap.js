// Heat map of request durations over time: one cell for each point and bucket.

import { clock, count, seconds } from "./format.js";
import { AXIS, times } from "./time.js";

/** The first and the last bucket with a request. */
function used(points) {
  const sums = [];
  for (const { durations } of points) durations.forEach((n, at) => (sums[at] = (sums[at] ?? 0) + n));
  const first = sums.findIndex((n) => n > 0);
  const last = sums.findLastIndex((n) => n > 0);
  return first < 0 ? [0, 1] : [first, last + 1];
}

export function heat(node, width, height, past, color, showCaption) {
  let points = [];
  const limits = past.limits;
  const below = (at) => (at === 0 ? 0 : limits[at - 1]);
  const name = (at) =>
    at < limits.length ? `${seconds(below(at))} to ${seconds(limits[at])}` : `above ${seconds(below(at))}`;

  const draw = (plot) => {
    const { ctx } = plot;
    const most = Math.max(1, ...points.flatMap((point) => point.durations));
    const tone = color("--heat");
    const wide = Math.max(1, plot.valToPos(past.step, "x", true) - plot.valToPos(0, "x", true));
    ctx.save();
    for (const point of points) {
      const left = plot.valToPos(point.time_seconds, "x", true);
      point.durations.forEach((n, at) => {
        if (n === 0) return;
        const top = plot.valToPos(at + 1, "y", true);
        const bottom = plot.valToPos(at, "y", true);
        ctx.fillStyle = `rgba(${tone}, ${0.15 + (0.85 * Math.log1p(n)) / Math.log1p(most)})`;
        ctx.fillRect(left, top, Math.ceil(wide), bottom - top);
      });
    }
    ctx.restore();
  };
  const point = () => {
    const { left, top } = plot.cursor;
    if (left < 0 || top < 0) return null;
    const time = plot.posToVal(left, "x");
    const at = Math.floor(plot.posToVal(top, "y"));
    const found = points.find((of) => of.time_seconds <= time && time < of.time_seconds + past.step);
    return found === undefined ? null : { found, at };
  };
  /** A summary of all points. */
  const sum = () => {
    const sums = limits.map((_, at) => points.reduce((all, { durations }) => all + (durations[at] ?? 0), 0));
    sums.push(points.reduce((all, { durations }) => all + (durations[limits.length] ?? 0), 0));
    const all = sums.reduce((a, b) => a + b, 0);
    if (all === 0) return "no requests";
    const usual = sums.indexOf(Math.max(...sums));
    return `${count(all)} requests; most took ${name(usual)}, the slowest ${name(sums.findLastIndex((n) => n > 0))}`;
  };
  const caption = () => {
    const under = point();
    if (under === null) return sum();
    const n = under.found.durations[under.at] ?? 0;
    return `${clock(under.found.time_seconds)}: ${count(n)} requests took ${name(under.at)}`;
  };
  const look = { stroke: color("--quiet"), grid: { show: false }, ticks: { show: false } };
  const plot = new uPlot(
    {
      width,
      height,
      legend: { show: false },
      cursor: { points: { show: false } },
      scales: { x: { range: times(past, () => points) }, y: { range: () => used(points) } },
      axes: [
        { ...look, ...AXIS },
        {
          ...look,
          size: 62,
          // A bucket spans from one limit to the next.
          splits: (_, __, low, high) => Array.from({ length: high - low + 1 }, (_, at) => low + at),
          values: (_, places) => places.map((at, place) => (place % Math.ceil(places.length / 6) === 0 ? seconds(below(at)) : "")),
        },
      ],
      series: [{}, { stroke: "transparent", points: { show: false } }],
      hooks: { draw: [draw], setCursor: [() => showCaption(caption())] },
    },
    [[], []],
    node,
  );
  return {
    plot,
    caption,
    columns: (_, now) => {
      points = now;
      // An invisible line makes the time axis.
      const times = now.map((point) => point.time_seconds);
      return [times, times.map(() => 0)];
    },
  };
}
