// Talking with the server: requests, answers that are sent until they are confirmed, and polling.

class Gone extends Error {}

async function call(path, body) {
  const options = { headers: { "X-Token": token }, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) };
  if (body) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let reply, data;
  try {
    reply = await fetch(path, options);
    data = await reply.json();
  } catch (fault) {
    if (reply && !reply.ok) throw new Error(`The server answered with the error ${reply.status}.`);
    throw new Gone(fault.message);
  }
  if (reply.status === 403) {
    tellGone("This address is no longer valid, as skastro label was started again. Open the address that it printed. "
      + (pending ? `Your last answer (${pending}) was not saved: give it again there.` : "All your answers are saved."));
    throw new Gone("403");
  }
  if (!reply.ok) throw new Error(data?.error ?? `The server answered with the error ${reply.status}.`);
  tellBack();
  return data;
}

// wait, or until "Try now" is pressed
const waiting = new Set();
const pause = (ms) => new Promise((resolve) => { waiting.add(resolve); setTimeout(resolve, ms); });
function wake() {
  for (const resolve of waiting) resolve();
  waiting.clear();
}

// send an answer again until the server confirms it: the same line twice does no harm
async function send(path, body, what) {
  pending = what;
  for (;;) {
    try {
      const reply = await call(path, body);
      pending = null;
      setTimeout(wake, POLL.learned);
      return reply;
    } catch (fault) {
      if (!(fault instanceof Gone)) { pending = null; throw fault; }
      if (fault.message !== "403") tellGone(goneText());
      await pause(POLL.gone);
    }
  }
}

const goneText = () => "The server does not answer. " + (pending
  ? `Your last answer (${pending}) is not saved yet: it is sent again as soon as the server is back. All answers before it are saved.`
  : "All your answers are saved. This page goes on as soon as the server is back.");

function tellGone(text) {
  gone = true;
  const banner = $(".banner");
  if (banner.hidden || banner.firstElementChild.textContent !== text) banner.firstElementChild.textContent = text;
  banner.hidden = false;
}

function tellBack() {
  if (!gone) return;
  gone = false;
  $(".banner").hidden = true;
}

// one thing at a time: a key that is pressed before the next stamp is there would answer unseen
async function act(work) {
  if (busy) return;
  busy = true;
  document.body.setAttribute("aria-busy", "true");
  const slow = setTimeout(() => document.body.classList.add("busy"), 150);
  try {
    await work();
  } catch (fault) {
    if (!(fault instanceof Gone)) say(fault.message[0].toUpperCase() + fault.message.slice(1), true);
    else if (fault.message !== "403") tellGone(goneText());
  } finally {
    clearTimeout(slow);
    document.body.classList.remove("busy");
    document.body.setAttribute("aria-busy", "false");
    busy = false;
  }
}

async function poll() {
  for (;;) {
    if (!busy && document.visibilityState === "visible") {
      try {
        const late = await call("/api/state");
        if (!busy) await follow(late);
      } catch (fault) {
        if (fault instanceof Gone && fault.message !== "403" && !busy) tellGone(goneText());
      }
    }
    await pause(gone ? POLL.gone : state?.progress ? POLL.progress : POLL.idle);
  }
}

// a state that came without an answer: a question may be there now
async function follow(late) {
  setState(late);
  if (view() === "first" && !state.classes.length) return showFirst();
  if (question || view() === "grid") return;
  if (state.progress && (state.classes.length || state.find)) showWait();
  else await act(async () => show(await call(`/api/next?tab=${tab}`)));
}

// tell what happened; those who do not see the page also hear what is asked next
function say(text, fault = false) {
  const next = view() === "one" && question ? ` Next: ${$(".plate").getAttribute("aria-label")}` : "";
  for (const line of $$(".said")) {
    line.replaceChildren(text, make("span", { class: "hidden-text" }, next));
    line.classList.toggle("fault", fault);
  }
}
