// Numbers, times and names as people read them.

export const NONE = "–";
const byDefault = "http://127.0.0.1:5000";

const grouped = new Intl.NumberFormat("en");
export const clock = new Intl.DateTimeFormat("en", { timeStyle: "medium", hourCycle: "h23" });
export const count = (number) => grouped.format(number);
const padded = (number) => String(number).padStart(2, "0");
export function duration(seconds) {
  if (seconds < 0.9995) return `${(seconds * 1000).toFixed(seconds < 0.001 ? 1 : 0)} ms`;
  if (seconds < 59.95) return `${seconds.toFixed(seconds < 9.995 ? 2 : 1)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${padded(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${padded(Math.floor(whole / 60) % 60)} m`;
  return `${Math.floor(whole / 86400)} d ${padded(Math.floor(whole / 3600) % 24)} h`;
}

export const tenths = (number) => (number < 99.95 ? number.toFixed(1) : count(Math.round(number)));
/** An id ends with the task's number; the part before it is the same for all tasks of one pool. */
export const shortId = (id) => `#${id.slice(id.lastIndexOf("-") + 1)}`;

const FAILURES = new Map([
  ["raised", "raised"],
  ["worker_crashed", "crashed"],
  ["task_timeout", "timed out"],
  ["task_memory_exceeded", "over memory"],
  ["pool_broken", "pool broken"],
  ["pool_shutdown", "cut off"],
]);

/** How a task ended; of a failed one, why. */
export const outcomeText = ({ status, failure }) => FAILURES.get(failure) ?? status;

/** The command that prints a link to this very page. */
export function linkCommand({ origin, pathname }) {
  const url = origin + pathname.slice(0, pathname.lastIndexOf("/"));
  return `disttask token --link${url === byDefault ? "" : ` --url ${url}`}`;
}
