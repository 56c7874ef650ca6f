// What makes the console quicker to work at. Every page does all it does without this.

const root = document.body.dataset.root;

// -- a decision is sent once ------------------------------------------------------------------------------------------

for (const form of document.querySelectorAll("form[data-once]")) {
  form.addEventListener("submit", () => {
    const button = form.querySelector("[data-busy]");
    button.setAttribute("aria-disabled", "true");
    button.textContent = button.dataset.busy;
    form.addEventListener("submit", (again) => again.preventDefault());
  });
}
