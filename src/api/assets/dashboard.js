// The dashboard: one stream of pictures in, rows kept in place.
//
// Whatever the server tells of tasks is somebody else's text. It enters the page through `textContent`, `title` and
// `dataset` only, and a URL through `encodeURIComponent`. All URLs are relative: the page may live below a prefix.

import { NONE, clock, count, duration, linkCommand, outcomeText, shortId, tenths } from "./text.js";

const KEPT_TASKS = 200;
const SEEN_TASKS = 2000;
const HISTORY_SECONDS = 120;
const RATE_SECONDS = 5;
const CPU_SECONDS = 2;
const SILENCE_MS = 6000;
const RETRY_MS = 2000;
const SIGNED_OUT_RETRY_MS = 15000;
// A hidden page gives its connection back: browsers grant six per host, and the server draws no pictures for nobody.
const HIDDEN_MS = 30000;
const NOTICE_MS = 6000;
// A summary longer than this is cut off even on a wide screen, so it is worth a details row.
const LONG_SUMMARY = 60;
const TILES = ["queued", "running", "succeeded", "failed", "retried", "worker_deaths"];

const byId = (id) => document.getElementById(id);

// ---- rows
/** Writes only what differs: an unchanged cell keeps its selection and costs no layout. */
function set(node, property, value) {
  if (node[property] !== value) node[property] = value;
}

const put = (node, text) => set(node, "textContent", text);

/** For text that may be cut off: the whole of it is in the tooltip. */
function putTitled(node, text) {
  put(node, text);
  set(node, "title", text);
}

function putState(node, state) {
  put(node, state);
  set(node.dataset, "state", state);
}

function stamp(template) {
  const root = byId(template).content.firstElementChild.cloneNode(true);
  const cells = [...root.querySelectorAll("[data-cell]")].map((cell) => [cell.dataset.cell, cell]);
  return { root, cells: Object.fromEntries(cells) };
}

/** Shows a list in a table's body: a key keeps its row, and only a row out of its place moves. */
function keyed(body, keyOf, action, update) {
  const begin = () => {
    const row = stamp(`${body}-row`);
    row.cells.action.addEventListener("click", () => action(row));
    return row;
  };
  let rows = new Map();
  return (items) => {
    const next = new Map();
    for (const item of items) {
      const row = rows.get(keyOf(item)) ?? begin();
      next.set(keyOf(item), Object.assign(row, { item }));
    }
    for (const [key, row] of rows) if (!next.has(key)) row.root.remove();
    rows = next;
    let place = byId(body).firstElementChild;
    for (const row of rows.values()) {
      if (row.root === place) place = place.nextElementSibling;
      else byId(body).insertBefore(row.root, place);
      update(row);
    }
  };
}

function showEmpty(name, empty, sentence) {
  set(byId(`${name}-table`), "hidden", empty);
  set(byId(`${name}-empty`), "hidden", !empty);
  put(byId(`${name}-empty`), sentence);
}

// ---- what a person does
let noticeTimer;
const dismiss = () => { byId("notice").hidden = true; };
function notify(text, bad) {
  clearTimeout(noticeTimer);
  byId("notice").className = bad ? "banner bad" : "banner good";
  byId("notice").hidden = false;
  put(byId("notice-text"), text);
  // An error stays until it is dismissed.
  if (!bad) noticeTimer = setTimeout(dismiss, NOTICE_MS);
}

async function ask(method, url, headers) {
  const response = await fetch(url, { method, headers, cache: "no-store" }).catch(() => null);
  if (response === null) throw new Error("The server does not answer.");
  if (response.status === 401) lost();
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new Error(body?.message ?? `The server answered ${response.status}.`);
  return body;
}

/** Asks for the CSRF value each time: a log-in in another tab replaces it. */
async function act(row, method, url, done) {
  if (row.cells.action.ariaBusy === "true") return;
  row.cells.action.ariaBusy = "true";
  try {
    const { csrf } = await ask("GET", "api/v1/session", {});
    await ask(method, url, csrf === null ? {} : { "x-disttask-csrf": csrf });
    notify(done, false);
  } catch (error) {
    notify(error.message, true);
  } finally {
    row.cells.action.ariaBusy = "false";
  }
}

function isSure(question) {
  const sure = confirm(question);
  // The question held all timers up: the silence since is the page's own.
  if (link === "live") awaitPicture();
  return sure;
}

function restart(row) {
  const { worker, pid } = row.item;
  const question = `Kill worker ${worker} (pid ${pid}) and start another? A task that it runs loses this attempt.`;
  if (isSure(question)) act(row, "POST", `api/v1/workers/${encodeURIComponent(pid)}/restart`, `Worker ${worker} is restarted.`);
}

/** Cancels a task that waits. One that runs is killed, and ends as cancelled: it is not tried again. */
function cancel(row) {
  const { task_id: id, status } = row.item;
  const url = `api/v1/tasks/${encodeURIComponent(id)}`;
  if (status !== "running") act(row, "DELETE", url, `Task ${shortId(id)} is cancelled.`);
  else if (isSure(`Kill task ${shortId(id)} in the midst of what it does? It is not tried again.`)) {
    act(row, "DELETE", `${url}?kill=true`, `Task ${shortId(id)} is killed.`);
  }
}

// ---- workers, and tasks that have not ended
const usage = new Map();
/** Percent of one core over the last seconds, by the server's clock. */
function cpuText({ worker, pid, cpu_seconds: used }) {
  const marks = (usage.get(worker) ?? []).filter((mark) => mark.pid === pid && mark.at >= uptime - CPU_SECONDS);
  usage.set(worker, [...marks, { pid, used, at: uptime }]);
  // A mark is a moment old at least: less than a clock tick apart tells nothing.
  if (pid === null || marks.length === 0 || uptime - marks[0].at < 0.1) return NONE;
  return `${Math.max(0, (100 * (used - marks[0].used)) / (uptime - marks[0].at)).toFixed(0)} %`;
}

const showWorkers = keyed("workers", (item) => item.worker, restart, ({ cells, item }) => {
  const alive = item.pid !== null;
  put(cells.worker, String(item.worker));
  put(cells.pid, String(item.pid ?? NONE));
  putState(cells.state, item.state);
  const again = item.task?.attempt > 1 ? ` (attempt ${item.task.attempt})` : "";
  putTitled(cells.task, item.task ? `#${item.task.id}${again} ${item.task.name || "(no name)"}` : "");
  put(cells.done, count(item.tasks_done));
  put(cells.restarts, count(item.restarts));
  put(cells.memory, alive ? `${tenths(item.memory_bytes / 1048576)} MiB` : NONE);
  put(cells.cpu, cpuText(item));
  set(cells.action, "disabled", !alive);
  set(cells.action, "ariaLabel", `Restart worker ${item.worker}`);
});

/** Its name, and the submitter's words for it. */
const title = ({ name, tags }) => [name || "(no name)", ...tags].join(" · ");

const showPresent = keyed("present", (item) => item.task_id, cancel, ({ cells, item }) => {
  const runs = item.status === "running";
  putTitled(cells.name, title(item));
  put(cells.id, shortId(item.task_id));
  set(cells.id, "title", item.task_id);
  putState(cells.state, item.status);
  put(cells.waited, duration(item.waited_seconds));
  put(cells.ran, runs ? duration(item.ran_seconds) : NONE);
  const verb = runs ? "Kill" : "Cancel";
  put(cells.action, verb);
  set(cells.action, "ariaLabel", `${verb} task ${shortId(item.task_id)}`);
});

// ---- tasks that have ended
/** Newest first. `held` are those that came while the list is paused. */
const past = { rows: [], seen: new Set(), held: [], paused: false };

function matches({ task }) {
  const outcome = byId("outcome").value || task.status;
  return task.status === outcome && title(task).toLowerCase().includes(byId("name").value.toLowerCase());
}

function toggle(row) {
  row.open = !row.open;
  if (!row.details) {
    row.details = stamp("details-row");
    put(row.details.cells.id, `Task ${row.task.task_id}, ended ${row.ended.toLocaleString("sv")}`);
    put(row.details.cells.text, [row.task.summary, row.task.details].filter(Boolean).join("\n\n"));
    row.root.append(row.details.root);
  }
  row.details.root.hidden = !row.open;
  row.cells.more.ariaExpanded = String(row.open);
}

/** Such a row never changes again. */
function pastRow({ task, ended }) {
  const row = Object.assign(stamp("past-row"), { task, ended, open: false });
  const { cells } = row;
  put(cells.when, clock.format(ended));
  cells.when.dateTime = ended.toISOString();
  cells.when.title = ended.toLocaleString("sv");
  putTitled(cells.name, title(task));
  putState(cells.state, task.status);
  put(cells.state, outcomeText(task));
  put(cells.ran, task.pid === null && task.status === "cancelled" ? NONE : duration(task.ran_seconds));
  put(cells.waited, duration(task.waited_seconds));
  put(cells.pid, String(task.pid ?? NONE));
  putTitled(cells.summary, task.summary);
  cells.more.hidden = task.details === "" && task.summary.length <= LONG_SUMMARY;
  cells.more.ariaLabel = `Details of task ${shortId(task.task_id)}`;
  cells.more.addEventListener("click", () => toggle(row));
  return row;
}

/** The row that a person has a selection or the focus in. */
function rowInUse() {
  const selection = getSelection();
  const node = selection.isCollapsed ? document.activeElement : selection.anchorNode;
  return past.rows.find((row) => row.root.contains(node));
}

/** The row that must not move on the screen: one that is being read, or the first one when scrolled into the list. */
function stillRow() {
  const used = rowInUse();
  const sides = (row) => row.root.getBoundingClientRect();
  const visible = (row) => !row.root.hidden && sides(row).bottom > 0 && sides(row).top < innerHeight;
  const reading = past.rows.find((row) => (row.open || row === used) && visible(row));
  if (reading || byId("past-table").getBoundingClientRect().top >= 0) return reading;
  return past.rows.find(visible);
}

/** Oldest first, but rows that the filter shows stay longer than others, and those in use longest. */
function evict() {
  const used = rowInUse();
  const spare = (row) => !row.open && row !== used;
  for (const may of [(row) => spare(row) && !matches(row), spare, () => true]) {
    for (let at = past.rows.length - 1; at >= 0 && past.rows.length > KEPT_TASKS; at -= 1) {
      if (may(past.rows[at])) past.rows.splice(at, 1)[0].root.remove();
    }
  }
}

function addPast(entries) {
  const still = stillRow();
  const before = still?.root.getBoundingClientRect().top;
  const rows = entries.map(pastRow);
  for (const row of rows) row.root.hidden = !matches(row);
  byId("past-table").tHead.after(...rows.map((row) => row.root));
  past.rows.unshift(...rows);
  evict();
  // Not left to the browser's scroll anchoring, which not every browser has (the style sheet turns it off).
  if (still?.root.isConnected) scrollBy(0, still.root.getBoundingClientRect().top - before);
}

function takePast(tasks) {
  // After a reconnection the server tells of the last ones again.
  const fresh = tasks.filter((task) => !past.seen.has(task.task_id));
  past.seen = new Set([...past.seen, ...fresh.map((task) => task.task_id)].slice(-SEEN_TASKS));
  const entries = fresh.map((task) => ({ task, ended: new Date(Date.now() - 1000 * task.ended_seconds_ago) }));
  past.held = [...entries, ...past.held].slice(0, KEPT_TASKS);
  if (!past.paused && past.held.length > 0) addPast(past.held.splice(0));
  notePast();
}

/** Filters the rows and counts them. */
function notePast() {
  for (const row of past.rows) set(row.root, "hidden", !matches(row));
  const [shown, kept] = [past.rows.filter((row) => !row.root.hidden).length, past.rows.length];
  const held = past.paused ? `, paused, ${past.held.length} new` : "";
  put(byId("past-note"), (shown < kept ? `${shown} of the last ${kept}` : `last ${kept}`) + held);
  showEmpty("past", shown === 0, kept === 0 ? "No task has ended yet." : "No task matches the filter.");
}

function pausePast() {
  past.paused = !past.paused;
  byId("pause").ariaPressed = String(past.paused);
  put(byId("pause"), past.paused ? "Resume" : "Pause");
  takePast([]);
}

// ---- the whole picture
/** Of the server's clock, and thus of all differences: a page that slept or a slow network cannot bend it. */
let uptime = 0;
let history = [];
/** Names the pool; a server that was started anew has another one. */
let run;

function beginAnew() {
  history = [];
  usage.clear();
  for (const row of past.rows) row.root.remove();
  Object.assign(past, { rows: [], seen: new Set(), held: [] });
  dismiss();
}

/** Tasks a second over the last seconds, or over the gap if the page has missed them. */
function noteRate({ succeeded, failed }) {
  const sample = { at: uptime, ended: succeeded + failed, rate: null };
  const from = history.find(({ at }) => at >= uptime - RATE_SECONDS) ?? history.at(-1);
  if (from && uptime > from.at) sample.rate = Math.max(0, (sample.ended - from.ended) / (uptime - from.at));
  history.push(sample);
  history = history.filter(({ at }) => at >= uptime - HISTORY_SECONDS);
  return sample.rate;
}

function drawRates() {
  const known = history.filter(({ rate }) => rate !== null);
  const peak = Math.max(0, ...known.map(({ rate }) => rate));
  const x = (at) => (HISTORY_SECONDS - (uptime - at)).toFixed(1);
  const line = known.map(({ at, rate }) => `${x(at)},${(31 - (29 * rate) / (peak || 1)).toFixed(1)}`).join(" ");
  byId("spark-line").setAttribute("points", line);
  byId("spark-area").setAttribute("points", line && `${x(known[0].at)},32 ${line} ${HISTORY_SECONDS},32`);
  put(byId("peak"), `peak ${tenths(peak)} in 2 min`);
}

function show(picture) {
  const { status, present } = picture;
  // Another server's totals, clocks and tasks begin anew.
  if (run !== undefined && picture.run !== run) beginAnew();
  run = picture.run;
  uptime = picture.uptime_seconds;
  put(byId("uptime"), uptime < 59 ? `${Math.floor(uptime)} s` : duration(uptime));
  const tiles = { ...status.totals, queued: status.queued, running: status.running };
  for (const id of TILES) put(byId(id), count(tiles[id]));
  for (const id of ["failed", "worker_deaths"]) byId(id).classList.toggle("some", tiles[id] > 0);
  put(byId("of-workers"), `on ${count(status.workers.length)} workers`);
  const rate = noteRate(status.totals);
  put(byId("rate"), rate === null ? NONE : tenths(rate));
  drawRates();
  set(byId("broken"), "hidden", status.broken === null);
  put(byId("why"), status.broken ?? "");
  set(byId("closed"), "hidden", status.accepting || status.broken !== null);
  showWorkers(status.workers);
  put(byId("workers-note"), `${status.workers.filter(({ state }) => state === "busy").length} busy`);
  showEmpty("workers", status.workers.length === 0, "The pool has no workers.");
  showPresent(present);
  const all = status.queued + status.running;
  put(byId("present-note"), present.length < all ? `first ${present.length} of ${count(all)}` : count(all));
  showEmpty("present", present.length === 0, "No task runs or waits.");
  takePast(picture.past);
}

// ---- the connection
let source, retryTimer, silenceTimer, hiddenTimer, link = "connecting";

function setLink(state) {
  link = state;
  document.body.dataset.link = state;
  put(byId("link"), state);
  byId("signed-out").hidden = state !== "signed out";
}

/** A connection can die without a word, as when a laptop sleeps. */
function awaitPicture() {
  clearTimeout(silenceTimer);
  silenceTimer = setTimeout(lost, SILENCE_MS);
}

function connect() {
  hangUp();
  awaitPicture();
  source = new EventSource("api/v1/events");
  source.addEventListener("error", lost);
  source.addEventListener("picture", (event) => {
    awaitPicture();
    if (link !== "live") setLink("live");
    show(JSON.parse(event.data));
  });
}

function hangUp() {
  source?.close();
  clearTimeout(retryTimer);
  clearTimeout(silenceTimer);
}

/** Retries are this page's and not the browser's, which gives up for good at the first answer that is no stream. */
async function lost() {
  hangUp();
  if (link !== "signed out") setLink("reconnecting");
  const failed = source;
  const probe = await fetch("status", { cache: "no-store", signal: AbortSignal.timeout(SILENCE_MS) }).catch(() => null);
  if (failed !== source) return;
  clearTimeout(retryTimer);
  setLink(probe?.status === 401 ? "signed out" : "reconnecting");
  if (!document.hidden) retryTimer = setTimeout(connect, link === "signed out" ? SIGNED_OUT_RETRY_MS : RETRY_MS);
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(hiddenTimer);
  if (document.hidden) hiddenTimer = setTimeout(hangUp, HIDDEN_MS);
  else if (source.readyState === EventSource.CLOSED) connect();
});
byId("filter").addEventListener("input", notePast);
byId("filter").addEventListener("submit", (event) => event.preventDefault());
byId("pause").addEventListener("click", pausePast);
byId("notice-close").addEventListener("click", dismiss);
put(byId("link-command"), linkCommand(location));
connect();
