// The state in every page's head, asked for while the page is visible; and the first message.
//
//   [data-state="/console/state"]   the pill: its sign, its words, more words
//   [data-first]                    a link, hidden until there is a message
const pill = document.querySelector("[data-state]");
const first = document.querySelector("[data-first]");

function show({kind, parts, ...now}) {
  const before = pill.textContent;
  pill.className = `pill ${kind}`;
  parts.forEach((text, place) => { pill.children[place].textContent = text; });
  if (pill.textContent !== before) document.querySelector("[data-status]").textContent = parts.slice(1).join("");
  if (first && now.first) [first.textContent, first.href, first.hidden] = [...now.first, false];
}

async function look() {
  if (document.hidden) return;
  const wait = {cache: "no-store", signal: AbortSignal.timeout(4000)};
  show(await fetch(pill.dataset.state, wait).then((answer) => answer.json())
    .catch(() => ({kind: "warn", parts: ["…", "no answer", ""]})));
}

setInterval(look, first ? 1000 : 5000);
document.addEventListener("visibilitychange", look);
