// Sends the form and files to the API itself: with progress, and without leaving the page.
const form = document.querySelector("[data-send]");
const results = document.querySelector("[data-results]");
const files = document.getElementById("files");
const drop = document.querySelector("[data-drop]");
const body = form.elements.body;
const count = document.querySelector("[data-count]");
const bytes = new TextEncoder();

const size = (number) => (number < 1024 ? `${number} bytes` : `${(number / 1024).toFixed(1)} KiB`);

function jsonWords(text) {
  const split = form.elements.split.value;
  if (split === "lines" || !/^\s*[[{"]/.test(text)) return "";
  const lines = split === "ndjson" ? text.split("\n") : [text];
  for (const [n, line] of lines.entries()) {
    if (!line.trim()) continue;
    try {
      JSON.parse(line); // only to say whether it is JSON: what is sent is the text
    } catch {
      return lines.length > 1 ? `, line ${n + 1} is not JSON` : ", not JSON";
    }
  }
  return ", JSON ok";
}

function tell() {
  const length = bytes.encode(body.value).length;
  count.textContent = length ? size(length) + (length < 65536 ? jsonWords(body.value) : "") : "";
}

function line(words) {
  const item = document.createElement("li");
  const text = document.createElement("span");
  text.dir = "auto";
  text.textContent = words;
  item.append(text);
  results.prepend(item);
  return { item, text };
}

function refuse(words) {
  line(`✗ ${words}`).item.className = "bad";
}

function inWords(status, answer) {
  if (status === 201) return answer.count ? `${answer.count} messages are stored` : `stored as ${answer.id}`;
  if (answer.status === "quarantined") return `kept as a dead letter: ${answer.error}`;
  if (status === 202) return `${answer.count ? `${answer.count} messages are kept` : `kept as ${answer.id}`}, and will be stored in a moment`;
  if (status === 0) return "no answer: whether it was kept is not known; send it again with the same key";
  return `${answer.title ?? "refused"}: ${answer.detail ?? `status ${status}`}`;
}

function send(name, content, { split = "", type = "", key = "" } = {}) {
  const { item, text } = line(`${name}: sending`);
  const progress = document.createElement("progress");
  progress.max = 1;
  progress.value = 0;
  progress.setAttribute("aria-label", name);
  item.append(" ", progress);
  const topic = form.elements.topic.value.trim();
  const url = `${form.dataset.api}${encodeURIComponent(topic)}/messages${split ? `?split=${split}` : ""}`;
  return new Promise((done) => {
    const request = new XMLHttpRequest();
    request.open("POST", url);
    request.setRequestHeader("X-Appliance-Form", form.elements.csrf.value);
    if (form.elements.wait.checked) request.setRequestHeader("Prefer", "wait=5");
    if (key) request.setRequestHeader("Idempotency-Key", key.replace(/[^\x20-\x7e]/g, "?"));
    if (type) request.setRequestHeader("Content-Type", type);
    request.upload.onprogress = (event) => { progress.value = event.total ? event.loaded / event.total : 1; };
    request.onloadend = () => {
      let answer = {};
      try { answer = JSON.parse(request.responseText); } catch { /* none */ }
      progress.remove();
      const good = request.status === 201 || request.status === 202;
      item.className = good ? "ok" : "bad";
      text.textContent = `${good ? "✓" : "✗"} ${name}: ${inWords(request.status, answer)}`;
      if (answer.id) item.dataset.id = answer.id;
      document.querySelector("[data-status]").textContent = text.textContent;
      done(good);
    };
    request.send(content);
  });
}

async function sendFiles(list) {
  for (const file of list) {
    if (!file.size || file.size > Number(form.dataset.most)) {
      refuse(`${file.name}: ${file.size ? `${size(file.size)} are more than one message can have` : "it is empty, and a message needs at least one byte"}`);
    } else {
      const isSplit = /ndjson|jsonl|json-seq|cloudevents|form/.test(file.type);
      await send(file.name, file, { type: isSplit || !file.type ? "application/octet-stream" : file.type });
    }
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("[data-submit]");
  button.disabled = true;
  try {
    if (files.files.length) {
      await sendFiles([...files.files]);
      files.value = "";
    }
    if (body.value) {
      const split = form.elements.split.value;
      const type = { ndjson: "application/x-ndjson", array: "application/json" }[split] ?? "";
      await send("message", bytes.encode(body.value), { split, type, key: form.elements.key.value.trim() });
    }
    if (!results.children.length) refuse("write something, or choose files");
  } finally {
    button.disabled = false;
  }
});
for (const name of ["dragover", "dragleave", "drop"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragover");
    if (name !== "drop") return;
    if (form.reportValidity()) sendFiles([...event.dataTransfer.files]);
  });
}
document.querySelector("[data-make-key]").addEventListener("click", () => {
  form.elements.key.value = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
});
body.addEventListener("input", tell);
form.elements.split.addEventListener("change", tell);
drop.hidden = false;
document.querySelector("[data-make-key]").hidden = false;
document.querySelector("[data-result]")?.scrollIntoView({ block: "nearest" });
tell();
