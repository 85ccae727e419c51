// Messages as they are stored, on a page that shows the newest ones.
//
//   <span data-live="/v1/stream" data-cursor="CURSOR" hidden>   the stream, and where to begin
//     [data-live-toggle] [data-live-state] [data-live-new]      button, words, link to what is new
//   <tbody data-live-rows>   rows of the server's: tr#m-ID, .mark input, .when a > time, .topic a,
//                            .n, .body
//
// The server thins the stream: four frames a second at most, each with the true count and the newest
// 50. Here 40 rows are written over and over. It pauses where somebody reads; while it does, or its
// tab is hidden, nothing is lost: the cursor says where to go on. With `cols` only the count is shown.
// data-seen counts the messages, for tests.
const ROWS = 40;
const WAITS = [1, 2, 4, 8, 15];
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const box = document.querySelector("[data-live]");
const rows = document.querySelector("[data-live-rows]");
const state = box.querySelector("[data-live-state]");
const toggle = box.querySelector("[data-live-toggle]");
const news = box.querySelector("[data-live-new]");
const asked = new URLSearchParams(location.search);
const writes = rows !== null && rows.rows.length > 0 && !asked.has("cols");

let cursor = box.dataset.cursor || "0";
let pausedAt = null; // the cursor behind the last row that is shown, while it is paused
let missed = 0; // messages since then
let seen = 0;
let ring = []; // the newest messages, newest first
let rate = 0;
let shown = "";
let source = null;
let fails = 0;
let lostAt = null;
let retryAt = 0;
let timer = 0;
let painting = 0;
let painted = 0;
let quiet = 0;

function size(number) {
  if (number < 1024) return `${number} B`;
  let value = number;
  for (const unit of ["KiB", "MiB", "GiB"]) {
    value /= 1024;
    if (value < 1024 || unit === "GiB") return `${value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${unit}`;
  }
}

function words() {
  if (lostAt) {
    const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
    return `no answer since ${lostAt}, ${source ? "trying now" : `reconnecting in ${seconds} s`}`;
  }
  if (pausedAt !== null) return "paused";
  if (rate === null) return "catching up";
  return rate ? `live, ${rate.toLocaleString("en")}/s${shown}` : "live";
}

function say() {
  state.textContent = words();
  toggle.textContent = pausedAt === null ? "Pause" : "Resume";
  rows?.classList.toggle("muted", Boolean(lostAt));
  news.hidden = !missed;
  if (missed) {
    const query = new URLSearchParams(asked);
    query.set("after", pausedAt);
    news.href = `?${query}`;
    news.textContent = `${missed.toLocaleString("en")} new`;
  }
}

// A row's message, as the server wrote it.
function read(row) {
  const topic = row.querySelector(".topic a");
  return {
    id: row.id.slice(2),
    received_at: row.querySelector("time").getAttribute("datetime"),
    topic: topic?.textContent,
    size: row.querySelector(".n").textContent,
    preview: row.querySelector(".body").textContent,
    before: new URL(row.querySelector(".when a").href).searchParams.get("before"),
  };
}

function write(row, message) {
  if (row.id === `m-${message.id}`) return;
  row.id = `m-${message.id}`;
  row.className = "";
  row.removeAttribute("aria-current");
  const time = row.querySelector("time");
  time.setAttribute("datetime", message.received_at);
  const link = time.closest("a");
  const url = new URL(link.href);
  if (url.searchParams.has("open")) {
    url.searchParams.set("open", message.id);
    url.searchParams.set("before", message.before); // the page on which it stays
    url.hash = `m-${message.id}`;
  } else url.pathname = url.pathname.replace(/[^/]*$/, message.id);
  link.href = url;
  const topic = row.querySelector(".topic a");
  if (topic) {
    topic.href = topic.getAttribute("href").replace(/[^/]*$/, encodeURIComponent(message.topic));
    topic.textContent = message.topic;
  }
  row.querySelector(".n").textContent = message.size ?? size(message.bytes);
  row.querySelector(".body").textContent = (message.kind === "binary" ? "binary " : "") + message.preview;
  const mark = row.querySelector(".mark input");
  if (mark) {
    mark.value = message.id;
    mark.setAttribute("aria-label", `Mark the message of ${message.received_at}`);
  }
}

function paint() {
  clearTimeout(painting);
  painting = 0;
  painted = Date.now();
  if (!writes || pausedAt !== null) return;
  while (rows.rows.length < Math.min(ROWS, ring.length)) rows.append(rows.rows[0].cloneNode(true));
  while (rows.rows.length > ROWS) rows.lastElementChild.remove();
  ring.slice(0, ROWS).forEach((message, place) => write(rows.rows[place], message));
  window.dispatchEvent(new CustomEvent("console:times", {detail: rows}));
}

function take(frame) {
  seen += frame.n;
  box.dataset.seen = seen;
  for (const message of frame.messages) message.before = frame.before;
  ring = [...frame.messages, ...ring].slice(0, ROWS);
  rate = frame.rate;
  shown = frame.n > frame.messages.length ? `, the newest ${frame.messages.length} of ${frame.n} shown` : "";
  clearTimeout(quiet);
  quiet = setTimeout(() => { rate = 0; shown = ""; say(); }, 2000);
  if (pausedAt !== null) missed += frame.n;
  else if (!writes) missed += frame.n;
  else painting ||= setTimeout(paint, Math.max(0, painted + (calm.matches ? 5000 : 250) - Date.now()));
  say();
}

function pause() {
  if (pausedAt !== null || !writes) return;
  paint();
  pausedAt = cursor;
  missed = 0;
  say();
}

function resume() {
  pausedAt = null;
  missed = 0;
  paint();
  say();
}

function close() {
  source?.close();
  source = null;
  clearTimeout(timer);
}

function connect() {
  close();
  if (document.hidden) return;
  const url = new URL(box.dataset.live, location.href);
  if (asked.get("topic")) url.searchParams.set("topic", asked.get("topic"));
  url.searchParams.set("after", cursor);
  source = new EventSource(url);
  source.addEventListener("place", (event) => {
    cursor = event.lastEventId;
    fails = 0;
    lostAt = null;
    say();
  });
  source.addEventListener("messages", (event) => {
    cursor = event.lastEventId;
    take(JSON.parse(event.data));
  });
  source.onerror = () => lose(url);
  say();
}

// A browser would try for ever, and would not say for how long.
async function lose(url) {
  close();
  lostAt ??= new Date().toTimeString().slice(0, 8);
  const wait = WAITS[Math.min(fails++, WAITS.length - 1)];
  retryAt = Date.now() + wait * 1000;
  count();
  const answer = await fetch(url, {method: "HEAD", cache: "no-store"}).catch(() => null);
  if (answer?.status === 401 || answer?.status === 403) {
    close();
    state.textContent = "signed out";
  }
}

function count() {
  say();
  const left = retryAt - Date.now();
  timer = left > 0 ? setTimeout(count, Math.min(left, 1000)) : setTimeout(connect);
}

toggle.addEventListener("click", () => (pausedAt === null ? pause() : resume()));
rows?.addEventListener("focusin", pause);
rows?.addEventListener("pointerdown", pause);
document.addEventListener("scroll", () => { if (scrollY > 40) pause(); }, {passive: true});
document.addEventListener("selectionchange", () => {
  const selection = getSelection();
  if (rows && !selection.isCollapsed && rows.contains(selection.anchorNode)) pause();
});
document.addEventListener("visibilitychange", () => (document.hidden ? close() : connect()));
addEventListener("pagehide", close);
addEventListener("pageshow", (event) => { if (event.persisted) connect(); });

if (!writes) {
  pausedAt = cursor;
  toggle.hidden = true;
} else {
  ring = [...rows.rows].slice(0, ROWS).map(read);
}
box.hidden = false;
connect();
