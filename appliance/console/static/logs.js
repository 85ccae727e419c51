// Follows the log of a process while its tab is seen: asks for the last lines, and adds the new ones.
const log = document.querySelector("[data-log]");
const toggle = document.querySelector("[data-follow-toggle]");
const state = document.querySelector("[data-follow-state]");
let known = "";
let paused = false;

function item({name, level, style, text}) {
  const line = document.createElement("li");
  const link = document.createElement("a");
  Object.assign(line, {id: name, className: style, dir: "auto"});
  Object.assign(link, {href: `#${name}`, ariaLabel: `${level}, link to this line`, textContent: "#"});
  line.append(link, ` ${text}`);
  return line;
}

function show(lines) {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const names = new Set(lines.map((line) => line.name));
  for (const line of [...log.children]) if (!names.has(line.id)) line.remove();
  lines.forEach((line, at) => {
    const one = document.getElementById(line.name) ?? item(line);
    if (log.children[at] !== one) log.insertBefore(one, log.children[at] ?? null);
  });
  if (atEnd) log.scrollTop = log.scrollHeight;
}

async function look() {
  if (!paused && !document.hidden) {
    const answer = await fetch(log.dataset.log, {headers: {"If-None-Match": known}, redirect: "error"}).catch(() => null);
    if (answer?.ok) {
      known = answer.headers.get("ETag");
      show(await answer.json());
    }
    if (!paused) state.textContent = answer?.ok || answer?.status === 304 ? "live" : "no answer";
  }
  setTimeout(look, 2000);
}

toggle.addEventListener("click", () => {
  paused = !paused;
  toggle.textContent = paused ? "Resume" : "Pause";
  state.textContent = paused ? "paused" : "live";
});
document.querySelector("[data-follow]").hidden = false;
if (!location.hash) log.scrollTop = log.scrollHeight;
look();
