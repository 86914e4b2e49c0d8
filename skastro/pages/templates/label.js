// The page of skastro label: what is shown, keys, and the start; label_*.js have the rest.

const CLASS_KEYS = "{{ class_keys }}";
const POLL = { idle: 5000, progress: 700, learned: 700, gone: 2000 }, PATIENCE = 20000; // milliseconds
const FARTHEST = 8; // times larger
const token = new URLSearchParams(location.search).get("token") ?? "";
const $ = (selector) => document.querySelector(selector);
const $$ = (selector) => [...document.querySelectorAll(selector)];
const phone = matchMedia("(max-width: 44rem)");

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") element.addEventListener("click", value);
    else if (value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const grouped = (n) => n.toLocaleString("en");
const counted = (n, noun) => `${grouped(n)} ${noun}${n === 1 ? "" : "s"}`;
const isDark = () =>
  (document.documentElement.dataset.theme
    || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const hue = (color) => (color === "#000000" && isDark() ? "#F0E442" : color); // yellow is too pale on white

let state = null, question = null, cells = null, gridClass = null, seed = null; // seed: the row that the others of the grid are like
let busy = false, pending = null, gone = false, shownAt = 0, heldMs = 0, lastClass = null;
const shown = { stretch: "0.5", bands: null, zoom: 1, x: 0, y: 0 };

// the tab keeps its name when it is reloaded; a copy of the tab gets another one
const tab = sessionStorage.getItem("skastro-tab") ?? crypto.randomUUID();
sessionStorage.removeItem("skastro-tab");
addEventListener("pagehide", () => sessionStorage.setItem("skastro-tab", tab));

const who = () => $(".who").value.trim();
const secondsLooked = () => Math.round((performance.now() - shownAt - heldMs) / 100) / 10;
const remember = (name, value) => { try { localStorage.setItem(`skastro-${name}`, value); } catch { /* no storage */ } };
const recall = (name) => { try { return localStorage.getItem(`skastro-${name}`); } catch { return null; } };

// ---- which part of the page is shown

const view = () => document.body.dataset.view;

function setView(name) {
  document.body.dataset.view = name;
  for (const part of ["first", "wait", "one", "grid"]) $(`main > .${part}`).hidden = part !== name;
  $(".survey").hidden = !["one", "grid"].includes(name) && !(name === "wait" && !state.progress);
  $(".views").hidden = !["one", "grid"].includes(name) || state.mode === "find";
  for (const part of ["one", "grid"]) $(`.views [data-do=${part}]`).setAttribute("aria-pressed", String(part === name));
}

async function show({ question: next, state: late }) {
  setState(late);
  if (state.mode === "classes" && !state.classes.length) return showFirst();
  if (!next) return showWait();
  await setQuestion(next);
}

function showFirst() {
  if (view() !== "first") {
    setView("first");
    setStrip(".first");
    $(".names input").focus();
  }
  const { progress } = state;
  $(".meanwhile").hidden = !progress;
  if (progress) $(".meanwhile").textContent = `Meanwhile: ${progress.text}${share(progress)}.`;
}

// some objects to look at, evenly spread over the rows
function setStrip(part) {
  const n = state.n_objects, most = Math.min(12, n);
  const rows = Array.from({ length: most }, (_, i) => Math.floor((i * n) / most));
  $(`${part} .strip-title`).textContent = `Some of your ${counted(n, "object")}:`;
  $(`${part} .strip`).replaceChildren(...rows.map((row) => make("img", { src: stampAddress(row, 160), alt: "" })));
}

const share = ({ share: done }) => (typeof done === "number" ? `, ${Math.round(100 * done)}\u00a0% done` : "");

function showWait() {
  question = null;
  if (state.progress && view() !== "wait") setStrip(".wait");
  for (const part of [".strip", ".strip-title"]) $(`.wait ${part}`).hidden = !state.progress;
  setView("wait");
  const { progress } = state, bar = $(".wait progress");
  bar.hidden = !progress;
  $(".wait [data-do=undo]").hidden = Boolean(progress);
  $(".wait h2").textContent = progress ? progress.text : "Every object has an answer.";
  bar.setAttribute("aria-label", progress?.text ?? "");
  if (typeof progress?.share === "number") bar.value = progress.share;
  else bar.removeAttribute("value");
  $(".wait .note").textContent = progress
    ? `${share(progress).replace(", ", "") || "Under way"}. The first stamp to label appears here by itself.`
    : `The ${counted(state.n_labelled, "label")} are in ${state.journal}.`;
}

// ---- other answers

const toQuestion = () => act(async () => {
  await show(await call(`/api/next?tab=${tab}`));
  if (view() === "one") $(".plate").focus({ preventScroll: true });
});

const lookAgain = () => act(async () => {
  const reply = await call(`/api/doubtful?tab=${tab}`);
  if (reply.question) return show(reply);
  setState(reply.state);
  say("No label is in doubt now.");
});

const undo = () => act(async () => {
  const wasGrid = view() === "grid", reply = await call("/api/undo", { tab, who: who() }), { undone } = reply;
  if (wasGrid) {
    setState(reply.state);
    await (seed === null ? loadGrid(gridClass) : loadSimilar(seed));
  } else await show(reply);
  say(undone.n > 1 ? `Taken back: ${undone.n} times ${undone.class}.`
    : wasGrid || !reply.question ? "The last answer is taken back." : `Taken back: ${reply.question.id}. Name it again.`);
});

async function addClass(name) {
  await act(async () => setState(await call("/api/class", { name })));
  return state.classes.some((c) => c.name === name);
}

function faultOfName(name) {
  if (!name) return "Type a name.";
  const twin = state.classes.find((c) => c.name.toLowerCase() === name.toLowerCase());
  return twin ? `There is a class ${twin.name} already.` : "";
}

function foldComment(fold) {
  $(".comment").hidden = fold;
  $("[data-do=comment]").setAttribute("aria-expanded", String(!fold));
}

const namesTyped = () => [...new Set($(".names input").value.split(/[,;\n]/).map((name) => name.trim()).filter(Boolean))];

const KEYS = [
  ["1 to 9", "give the class of that number"], ["a, Shift A", "give the class with that letter on its button, from the tenth on"], ["y, n", "yes and no, in a search"], ["s or 0", "skip: ask me later"], ["u", "unsure: nobody could tell"],
  ["z or Backspace", "take the last answer back"], ["c", "write a comment"], ["n", "add a class"], ["d", "second look at a label in doubt"],
  ["k", "keep the label, at a second look"], ["p", "show or hide what the classifier thinks"], ["g", "grid of 25 stamps"], ["Arrow keys", "move in the grid, or over a zoomed stamp"],
  ["Space", "mark a stamp of the grid as not of the class"], ["Enter", "give all stamps without a mark the class"], ["m", "more like this one: the objects most like it, as a grid"], ["Esc", "leave the grid"], ["+ and -", "zoom"],
  ["[ and ]", "stretch less and more"], ["?", "this help"],
];
const HELP = [
  "After each answer the classifier learns again and chooses the next object: mostly one that it is unsure of. One question in six is chosen at random. The accuracy rests on those and on how sure the classifier is of all objects, so the choice of the other questions does not spoil it.",
  "What the classifier thinks is hidden until you ask for it, and always hidden for objects chosen at random: people follow what they are shown, and the accuracy would look better than it is.",
  "Each answer is written to the file of labels before the next stamp is shown. You may close this page at any moment.",
];

const DO = {
  one: toQuestion, grid: () => openGrid(gridClass ?? lastClass ?? state.classes[0].name), doubtful: lookAgain, undo,
  similar: () => openSimilar(question.row),
  unsure: () => answer("unsure"), skip: () => answer("skip"), send: sendGrid,
  help: () => openDialog(".help"), retry: wake,
  closer: () => setZoom(shown.zoom * 1.5), farther: () => setZoom(shown.zoom / 1.5),
  comment: () => { foldComment(false); $(".comment input").focus(); },
  new: () => { $("dialog.new input").value = ""; $("dialog.new .fault").textContent = ""; openDialog(".new"); $("dialog.new input").focus(); },
  close: () => $("dialog[open]")?.close(),
};

// time in a dialog is not time that the object was looked at
function openDialog(selector) {
  const dialog = $(`dialog${selector}`), since = performance.now();
  dialog.addEventListener("close", () => { heldMs += performance.now() - since; }, { once: true });
  dialog.showModal();
}

// ---- keys

const ALWAYS = { "?": "help", g: "grid", d: "doubtful", z: "undo", Backspace: "undo" };
const SINGLE = { u: "unsure", s: "skip", 0: "skip", c: "comment", n: "new", m: "similar", "+": "closer", "=": "closer", "-": "farther" };

// the letters of classes differ by Shift, whatever Caps Lock says
const keyOf = ({ key, shiftKey }) => (/^[a-z]$/i.test(key) ? shiftKey ? key.toUpperCase() : key.toLowerCase() : key);
const nameOfKey = (key) => (/^[A-Z]$/.test(key) ? `\u21e7${key}` : key);

function onKey(event) {
  const { target } = event, key = keyOf(event);
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat && !key.startsWith("Arrow")) return;
  if ($("dialog[open]") || !(["one", "grid"].includes(view()) || (view() === "wait" && !state.progress))) return;
  if (target.matches("input[type=text]")) {
    if (key === "Escape") { foldComment(true); $(".plate").focus(); }
    return;
  }
  if (react(key, target)) event.preventDefault();
}

function react(key, target) {
  if (view() === "grid") {
    if (key.startsWith("Arrow")) return walk(key), true;
    if (key === "Escape") return toQuestion(), true;
    if (key === "Enter" && (target.matches(".cell") || target === document.body)) return sendGrid(), true;
    if (key === "m" && target.matches(".cell")) return openSimilar(Number(target.dataset.row)), true;
    const chosen = state.classes.find((c) => c.key === key);
    if (chosen) return chooseClass(chosen.name), true;
  } else {
    if (state.find && ["y", "1"].includes(key)) return answer("yes"), true;
    if (state.find && ["n", "2"].includes(key)) return answer("no"), true;
    const chosen = !state.find && state.classes.find((c) => c.key === key);
    if (chosen) return answer("label", chosen.name), true;
    if (key === "p" && !$(".switch").hidden) return $(".show-thoughts").click(), true;
    if (key === "k" && !$(".second").hidden) return keep(), true;
    if (key === "[" || key === "]") return moveStretch(key === "]" ? 0.1 : -0.1), true;
    if (key.startsWith("Arrow") && shown.zoom > 1 && !target.matches("input")) return pan(key), true;
    if (key === "m" && $(".like").hidden) return false;
    if (SINGLE[key]) return DO[SINGLE[key]](), true;
  }
  const name = ALWAYS[key];
  if (!name || (state.find && ["grid", "doubtful"].includes(name)) || (name === "doubtful" && !state.n_doubtful)) return false;
  DO[name]();
  return true;
}

function pan(key) {
  const [x, y] = { ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] }[key];
  setZoom(shown.zoom, shown.x + x, shown.y + y);
}

function moveStretch(step) {
  const slider = $(".stretch");
  slider.value = Number(slider.value) + step;
  slider.dispatchEvent(new Event("input"));
}

// ---- start

function listen() {
  document.addEventListener("keydown", onKey);
  document.addEventListener("click", (event) => {
    const name = event.target.closest("[data-do]")?.dataset.do;
    if (name) DO[name]();
  });
  document.addEventListener("theme", () => { if (state) { setState(state); if (question) setThoughts(); } });
  addEventListener("beforeunload", (event) => { if (pending) event.preventDefault(); });
  $(".stretch").addEventListener("input", (event) => { shown.stretch = event.target.value; redraw(); });
  $(".show-thoughts").checked = recall("thoughts") === "yes";
  $(".show-thoughts").addEventListener("change", (event) => {
    remember("thoughts", event.target.checked ? "yes" : "no");
    setThoughts();
  });
  $(".who").value = recall("who") ?? "";
  $(".who").addEventListener("change", (event) => remember("who", event.target.value.trim()));
  $(".comment").addEventListener("submit", (event) => { event.preventDefault(); $(".plate").focus(); });
  $(".names input").addEventListener("input", () => $(".chips").replaceChildren(...namesTyped().map((name, i) =>
    make("li", {}, CLASS_KEYS[i] ? make("kbd", {}, nameOfKey(CLASS_KEYS[i])) : null, name))));
  $(".names").addEventListener("submit", (event) => {
    event.preventDefault();
    if (namesTyped().length) act(async () => {
      for (const name of namesTyped()) setState(await call("/api/class", { name }));
      await show(await call(`/api/next?tab=${tab}`));
      if (view() === "one") $(".plate").focus({ preventScroll: true });
    });
  });
  $("dialog.new form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const name = $("dialog.new input").value.trim(), fault = faultOfName(name), both = event.submitter?.value !== "add";
    $("dialog.new .fault").textContent = fault;
    if (fault) return;
    $("dialog.new").close();
    if (await addClass(name) && both) await answer("label", name);
  });
  $(".keys").replaceChildren(...KEYS.flatMap(([keys, effect]) => [
    make("dt", {}, ...keys.split(/( or | to | and |, )/).map((part) => (/^( or | to | and |, )$/.test(part) ? part : make("kbd", {}, part)))),
    make("dd", {}, effect)]));
  $(".help-text").replaceChildren(...HELP.map((text) => make("p", {}, text)));
  listenToPlate();
  const fold = () => { for (const part of $$(".tools, .facts, .survey-fold")) part.open = !phone.matches; };
  phone.addEventListener("change", fold);
  fold();
}

listen();
poll();
