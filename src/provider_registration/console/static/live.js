// Says on lists and on a candidate's page that something has changed. One tab follows events for all of them.

const box = document.querySelector(".live");
const tabs = new BroadcastChannel("events");
let last = ""; // the cursor of the newest event that any tab received

function tell(event) {
  const [what, seen] = box.dataset.live.split(" ");
  // A list shows what its user did; a candidate's page shows its events up to `seen`.
  const isNew = what === "list" ? event.actor?.id !== box.dataset.user : event.candidate_id === what && +event.id > +seen;
  if (!isNew && !event.resync) return;
  box.querySelector("[data-live-text]").textContent =
    what === "list" ? "Candidates have changed." : "This candidate has changed.";
  box.hidden = false;
}

function follow() {
  return new Promise((stop) => {
    const url = `${document.body.dataset.root}/events/stream${last && `?after=${last}`}`;
    const stream = new EventSource(url);
    const receive = (message, event) => {
      last = message.lastEventId;
      tell(event);
      tabs.postMessage({ last, event });
    };
    stream.addEventListener("message", (message) => receive(message, JSON.parse(message.data)));
    stream.addEventListener("resync", (message) => receive(message, { resync: true }));
    stream.addEventListener("error", () => {
      if (stream.readyState === EventSource.CLOSED) stop(); // refused: signed out, or too many streams
    });
    addEventListener("pagehide", () => {
      stream.close();
      stop();
    });
  });
}

if (box?.dataset.live && navigator.locks) {
  tabs.addEventListener("message", ({ data }) => {
    last = data.last;
    tell(data.event);
  });
  // The tab that has the lock follows; when it is closed, the browser gives the lock to the next one.
  navigator.locks.request("events", follow);
}
