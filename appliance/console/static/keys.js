// Keys. They can be turned off (WCAG 2.1.4), and do nothing in fields or with Ctrl, Alt or Meta.
//
//   [data-search]      the field that / goes to
//   [data-row]         rows: j and k go from one to the next, Enter opens its link, x marks it
//   [data-back]        the link that Esc follows
//   [data-key="p"]     what the key p presses
//   [data-go="m"]      where g m goes
let begun = 0; // when g was pressed

function press(key) {
  const target = document.querySelector(`[data-key="${CSS.escape(key)}"]`);
  if (!target || target.hidden) return false;
  target.click();
  return true;
}

function move(step) {
  const rows = [...document.querySelectorAll("[data-row]")].filter((row) => row.offsetParent);
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  const row = rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + step))];
  (row.querySelector("a[href]") ?? row).focus();
}

function mark() {
  const box = document.activeElement?.closest("[data-row]")?.querySelector("input[type=checkbox]");
  if (box) box.click();
}

function go(key) {
  const link = document.querySelector(`[data-go="${CSS.escape(key)}"]`);
  if (link) location.assign(link.href);
}

document.addEventListener("keydown", (event) => {
  if (document.documentElement.dataset.keys === "off") return;
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  if (event.target.closest?.("input:not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (begun && Date.now() - begun < 1500) {
    begun = 0;
    go(event.key);
    return;
  }
  begun = 0;
  switch (event.key) {
    case "g": begun = Date.now(); return;
    case "j": move(1); break;
    case "k": move(-1); break;
    case "x": mark(); break;
    case "/": {
      const field = document.querySelector("[data-search]");
      if (!field) return;
      field.focus();
      field.select();
      break;
    }
    case "?": location.assign(document.querySelector(".help").href); break;
    case "Escape": {
      const back = document.querySelector("[data-back]");
      if (!back) return;
      location.assign(back.href);
      break;
    }
    default: if (!press(event.key)) return;
  }
  event.preventDefault();
});
