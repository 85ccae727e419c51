// Copying, and times in the zone that the reader chose.
//
//   <button data-copy="ID" hidden>   copies the text of the element with this id
//   <button data-copy-text="..." hidden>   copies this text
//   <button data-copy-url="..." hidden>    copies what is at this address
//   <time datetime="...">            is shown in the zone of <html data-time>, with the other beside
//   <button data-zone hidden>        changes the zone of the whole page
//
// A page that adds elements later calls window.dispatchEvent(new CustomEvent("console:times",
// {detail: element})).
const COPIES = "[data-copy], [data-copy-text], [data-copy-url]";
const root = document.documentElement;

export function say(text) {
  const line = document.querySelector("[data-status]");
  if (line) line.textContent = text;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without TLS a browser has no clipboard but the old one.
    const field = document.createElement("textarea");
    field.value = text;
    field.className = "away";
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  say("Copied");
}

document.addEventListener("click", (event) => {
  const button = event.target.closest(COPIES);
  if (!button) return;
  const { copy: id, copyText, copyUrl } = button.dataset;
  if (copyUrl) fetch(copyUrl).then((answer) => answer.text()).then(copy);
  else copy(copyText ?? document.getElementById(id).textContent);
  const word = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = word; }, 1500);
});

const pad = (number, length = 2) => String(number).padStart(length, "0");

function local(date) {
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ` +
    `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}.${pad(date.getMilliseconds(), 3)}`;
}

function ago(date) {
  const seconds = (Date.now() - date) / 1000;
  for (const [length, unit] of [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]]) {
    if (seconds >= length) return `${Math.floor(seconds / length)} ${unit} ago`;
  }
  return "just now";
}

function showTimes(within) {
  const isLocal = root.dataset.time === "local";
  for (const each of within.querySelectorAll("time[datetime]")) {
    const text = each.getAttribute("datetime");
    const date = new Date(text);
    if (Number.isNaN(date.getTime())) continue;
    const utc = text.replace("T", " ").replace(/Z$/, "");
    const here = local(date);
    each.textContent = isLocal ? here : utc;
    each.title = `${isLocal ? `${utc} UTC` : `${here} here`}, ${ago(date)}`;
  }
}

function showZone() {
  for (const each of document.querySelectorAll("[data-zone]")) {
    each.hidden = false;
    each.textContent = root.dataset.time === "local" ? "local" : "UTC";
  }
  showTimes(document);
}

document.addEventListener("click", (event) => {
  if (!event.target.closest("button[data-zone]")) return;
  root.dataset.time = root.dataset.time === "local" ? "utc" : "local";
  document.cookie = `appliance_time=${root.dataset.time}; path=${root.dataset.root}/console; ` +
    `max-age=31622400; samesite=lax${location.protocol === "https:" ? "; secure" : ""}`;
  showZone();
});
window.addEventListener("console:times", (event) => showTimes(event.detail));
for (const each of document.querySelectorAll(COPIES)) each.hidden = false;
showZone();
