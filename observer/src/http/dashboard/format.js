// Numbers and times as people read them. What is not known is a dash.

const UNKNOWN = "–";
const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

const digits = (value) => (value >= 100 ? 0 : value >= 10 ? 1 : 2);

export function seconds(value) {
  if (!known(value)) return UNKNOWN;
  if (value === 0) return "0 s";
  if (value < 1) return `${(value * 1000).toFixed(digits(value * 1000))} ms`;
  if (value < 60) return `${value.toFixed(value < 10 ? 2 : 1)} s`;
  const whole = Math.floor(value);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  const hours = Math.floor(whole / 3600);
  if (hours < 48) return `${hours} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export function bytes(value) {
  if (!known(value)) return UNKNOWN;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) {
    value /= 1024;
    at += 1;
  }
  return `${value.toFixed(at === 0 ? 0 : 1)} ${units[at]}`;
}

export const rate = (value) => (known(value) ? `${value.toFixed(value === 0 ? 0 : digits(value))}/s` : UNKNOWN);

export const share = (value) => (known(value) ? `${(value * 100).toFixed(value > 0 && value < 0.1 ? 1 : 0)} %` : UNKNOWN);

export const percent = (value) => (known(value) ? `${value.toFixed(value < 10 ? 1 : 0)} %` : UNKNOWN);

export const count = (value) => (known(value) ? value.toLocaleString("en") : UNKNOWN);

export const clock = (unix) => new Date(unix * 1000).toLocaleTimeString([], { hour12: false });

export const date = (unix) => new Date(unix * 1000).toLocaleString([], { hour12: false });

export const text = (value) => (value === null || value === undefined || value === "" ? UNKNOWN : String(value));
