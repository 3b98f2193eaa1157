// Charts of the last fifteen minutes.

import { element, find, mark, say } from "./dom.js";
import { clock, count, rate, seconds, share } from "./format.js";
import { heat } from "./heatmap.js";
import { AXIS, times } from "./time.js";

const HEIGHT = 170;

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const wide = (node) => Math.max(200, node.clientWidth);

/** `per` gives the value of a point, which covers `step` seconds. */
const CHARTS = [
  {
    name: "rate",
    title: "Requests and errors",
    unit: "per second",
    format: rate,
    series: [
      { label: "requests", color: "--c1", per: (point, step) => point.requests / step },
      { label: "errors", color: "--c2", per: (point, step) => point.errors / step, dash: [6, 3] },
    ],
  },
  {
    name: "latency",
    title: "Latency",
    unit: "time in Gunicorn's request handling",
    format: seconds,
    series: [
      { label: "p50", color: "--c1", per: (point) => point.p50_seconds },
      { label: "p95", color: "--c4", per: (point) => point.p95_seconds, dash: [6, 3] },
      { label: "p99", color: "--c2", per: (point) => point.p99_seconds, dash: [2, 2] },
    ],
  },
  {
    name: "utilisation",
    title: "Utilisation",
    unit: "share of the time with at least one request",
    format: share,
    range: [0, 1],
    series: [{ label: "busy", color: "--c3", per: (point) => point.utilisation }],
  },
  {
    name: "queue",
    title: "Queue",
    unit: "queue wait; connections and requests",
    format: seconds,
    series: [
      { label: "queue p95", color: "--c2", per: (point) => point.queue_p95_seconds },
      { label: "backlog", color: "--c4", per: (point) => point.backlog, scale: "n", format: count, dash: [6, 3] },
      { label: "in flight", color: "--c3", per: (point) => point.in_flight, scale: "n", format: count, dash: [2, 2] },
    ],
  },
];

function axes(chart) {
  const look = { stroke: color("--quiet"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
  const y = (format, scale, side) => ({
    ...look,
    scale,
    side,
    size: 62,
    grid: { ...look.grid, show: side === 3 },
    values: (_, values) => values.map((value) => (value === null ? "" : format(value))),
  });
  const all = [{ ...look, ...AXIS }, y(chart.format, "y", 3)];
  const second = chart.series.find((series) => series.scale === "n");
  return second ? [...all, y(second.format, "n", 1)] : all;
}

function options(chart, width, span) {
  const of = ({ label, color: name, scale, format, dash }) => ({
    label,
    scale: scale ?? "y",
    stroke: color(name),
    width: 1.5,
    dash,
    points: { size: 4 },
    value: (_, value) => (format ?? chart.format)(value),
  });
  const floor = (_, low, high) => (chart.range ? chart.range : [0, high > 0 ? high * 1.1 : 1]);
  return {
    width,
    height: HEIGHT,
    cursor: { y: false },
    scales: { x: { range: span }, y: { range: floor }, n: { range: (_, low, high) => [0, Math.max(high, 4)] } },
    axes: axes(chart),
    series: [{ value: (_, at) => (at === null ? "–" : clock(at)) }, ...chart.series.map(of)],
  };
}

/** The columns of a plot, with a gap where points are missing. */
function columns(chart, points, step) {
  const xs = [];
  const ys = chart.series.map(() => []);
  let last = null;
  for (const point of points) {
    if (last !== null && point.time_seconds - last > step * 1.5) {
      xs.push(last + step);
      for (const values of ys) values.push(null);
    }
    last = point.time_seconds;
    xs.push(last);
    chart.series.forEach((series, at) => ys[at].push(series.per(point, step) ?? null));
  }
  return [xs, ...ys];
}

export class Charts {
  constructor(node) {
    this.node = node;
    this.drawn = [];
    this.points = [];
    this.watch = new ResizeObserver(() => this.resize());
    this.watch.observe(node);
  }

  /** Removes all charts: the app or the colours change. */
  reset() {
    for (const { plot } of this.drawn) plot.destroy();
    this.drawn = [];
    this.node.replaceChildren();
  }

  update(past, points) {
    find("no-history").hidden = points.length > 0;
    this.points = points;
    if (points.length === 0) return;
    if (this.drawn.length === 0) this.begin(past, points);
    for (const of of this.drawn) {
      of.plot.setData(of.columns(past, points));
      of.say(of.caption(points[points.length - 1]));
    }
  }

  begin(past, points) {
    // All places exist before the first chart is drawn, because their width depends on their number.
    const places = CHARTS.map(({ name, title, unit }) => this.place(name, title, unit));
    const last = this.place("heatmap", "Latency heat map", "the stronger the colour, the more requests");
    const span = times(past, () => this.points);
    CHARTS.forEach((chart, at) => {
      const plot = new uPlot(options(chart, wide(places[at].canvas), span), columns(chart, points, past.step), places[at].canvas);
      const caption = (point) =>
        chart.series
          .map((series) => `${series.label} ${(series.format ?? chart.format)(series.per(point, past.step))}`)
          .join(", ");
      this.drawn.push({ plot, say: places[at].say, caption, columns: (past, points) => columns(chart, points, past.step) });
    });
    this.drawn.push({ ...heat(last.canvas, wide(last.canvas), HEIGHT, past, color, last.say), say: last.say });
  }

  /** The place of a chart, with a summary in words. */
  place(name, title, unit) {
    const caption = element("figcaption", {}, title, element("small", { class: "quiet" }, unit));
    const canvas = element("div", { role: "img" });
    const summary = element("p", { class: "quiet" });
    this.node.append(element("figure", { "data-chart": name }, caption, canvas, summary));
    return {
      canvas,
      say: (text) => {
        say(summary, text);
        mark(canvas, "aria-label", `${title}, ${unit}: ${text}`);
      },
    };
  }

  resize() {
    for (const { plot } of this.drawn) {
      const width = wide(plot.root.parentElement);
      if (plot.width !== width) plot.setSize({ width, height: HEIGHT });
    }
  }
}
