// The axis of time, which all charts share.

const LEAST_SECONDS = 120;

/** How the axis is labelled: hours and minutes, and seconds where they differ in them. */
export const AXIS = {
  size: 30,
  space: 70,
  values: (_, places, __, ___, step) =>
    places.map((at) => new Date(at * 1000).toLocaleTimeString([], { hour12: false, hour: "2-digit", minute: "2-digit", second: step < 60 ? "2-digit" : undefined })),
};

/** From the first point to the end of the last, and not less than two minutes. */
export const times = (past, points) => () => {
  const now = points();
  if (now.length === 0) return [0, LEAST_SECONDS];
  const end = now[now.length - 1].time_seconds + past.step;
  return [Math.min(now[0].time_seconds, end - LEAST_SECONDS), end];
};
