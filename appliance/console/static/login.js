// The sign-in page: shows the token while one wants to see it, and signs in by a link that works
// once. Its code is behind the #, so that it is in no server's log.
const form = document.getElementById("sign-in");
const link = /^#login=([\w-]{20,100})$/.exec(location.hash);
if (form && link) {
  history.replaceState(null, "", location.pathname + location.search);
  form.elements.code.value = link[1];
  form.elements.token.required = false;
  form.submit();
}
for (const button of document.querySelectorAll("[data-show]")) {
  const field = document.getElementById(button.dataset.show);
  button.hidden = false;
  button.addEventListener("click", () => {
    const shown = field.type === "text";
    field.type = shown ? "password" : "text";
    button.setAttribute("aria-pressed", String(!shown));
    button.textContent = shown ? "Show" : "Hide";
  });
}
