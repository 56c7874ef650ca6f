// Makes the console faster to use. Every page works without scripts.

// -- send a decision once ---------------------------------------------------------------------------------------------

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches("[data-once]")) return; // forms that arrive with the progress of a job count too
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "yes";
  const button = event.submitter?.dataset.busy ? event.submitter : form.querySelector("[data-busy]");
  button.setAttribute("aria-disabled", "true");
  button.textContent = button.dataset.busy;
});
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload(); // going back must show the current state
});

// -- typing a reason selects "Other" ----------------------------------------------------------------------------------

document.getElementById("reason")?.addEventListener("input", () => {
  document.getElementById("choice-own").checked = true;
});

// -- selecting rows ---------------------------------------------------------------------------------------------------

const marks = document.getElementById("marks");
const boxes = [...document.querySelectorAll("td.mark input")];
const all = document.querySelector("[data-mark-all]");

function showMarks() {
  const marked = boxes.filter((box) => box.checked);
  for (const box of boxes) box.closest("tr").classList.toggle("is-marked", box.checked);
  const text = marks.querySelector("[data-marked-count]");
  text.dataset.unmarked ??= text.textContent;
  text.textContent = marked.length ? `${marked.length} selected` : text.dataset.unmarked;
  all.checked = marked.length === boxes.length;
  all.indeterminate = marked.length > 0 && !all.checked;
}

if (marks) {
  all.hidden = false;
  all.addEventListener("change", () => {
    for (const box of boxes) box.checked = all.checked;
    showMarks();
  });
  for (const box of boxes) box.addEventListener("change", showMarks);
  showMarks();
}

// -- the progress of a job --------------------------------------------------------------------------------------------

const PROGRESS_MILLISECONDS = 2000;

async function showProgress() {
  try {
    const response = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (response.ok && !response.redirected) {
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      for (const part of document.querySelectorAll("[data-part]")) {
        const now = page.querySelector(`[data-part="${part.dataset.part}"]`);
        if (now && now.innerHTML !== part.innerHTML) part.replaceChildren(...now.childNodes);
      }
    }
  } catch {
    // the next look may succeed
  }
  followJob();
}

function followJob() {
  if (document.querySelector("[data-unfinished]")) setTimeout(showProgress, PROGRESS_MILLISECONDS);
}
followJob();

// -- keys -------------------------------------------------------------------------------------------------------------

const KEYS_OFF = "keys-off";
const help = document.getElementById("keys");
const rows = [...document.querySelectorAll("table.list tbody tr:has(.row-link)")];

function keysAreOn() {
  return localStorage.getItem(KEYS_OFF) === null;
}

function move(step) {
  const links = rows.map((row) => row.querySelector(".row-link"));
  const now = rows.findIndex((row) => row.contains(document.activeElement));
  const next = Math.min(Math.max(now + step, 0), links.length - 1);
  links[next]?.focus();
  rows[next]?.scrollIntoView({ block: "nearest" });
}

function follow(key) {
  document.querySelector(`[data-key="${key}"]`)?.click();
}

const ACTIONS = {
  j: () => move(1),
  k: () => move(-1),
  x: () => document.activeElement.closest("tr")?.querySelector(".mark input")?.click(),
  n: () => {
    const link = document.querySelector('[data-key="n"]');
    location.assign(link ? link.href : `${document.body.dataset.root}/admin/next`);
  },
  a: () => follow("a"),
  r: () => follow("r"),
  q: () => follow("q"),
  "/": () => document.getElementById("search")?.focus(),
  "?": () => help.showModal(),
};

if (help) {
  const opener = document.querySelector('[data-open="keys"]');
  opener.hidden = false;
  opener.addEventListener("click", () => help.showModal());
  help.querySelector("[data-close]").addEventListener("click", () => help.close());
  const on = document.getElementById("keys-on");
  on.checked = keysAreOn();
  on.addEventListener("change", () => {
    if (on.checked) localStorage.removeItem(KEYS_OFF);
    else localStorage.setItem(KEYS_OFF, "yes");
  });
  addEventListener("keydown", (event) => {
    const typing = event.target.closest("input:not([type=checkbox], [type=radio]), select, textarea, dialog");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !keysAreOn() || !ACTIONS[event.key]) return;
    event.preventDefault();
    ACTIONS[event.key]();
  });
}
