// One object: its picture, why it is asked, what is known of it, and the answer.

const stampAddress = (row, size) => {
  const query = new URLSearchParams({ size, token, stretch: shown.stretch });
  if (shown.bands) query.set("bands", shown.bands);
  return `/api/stamp/${row}.png?${query}`;
};
const plateSize = () => Math.min(1024, 64 * Math.ceil((($(".plate").clientWidth || 512) * devicePixelRatio) / 64));

// pictures of what is probably asked next are fetched while the person looks
let ahead = [];
const fetched = new Map();

async function lookAhead() {
  const asked = question;
  const reply = await call(`/api/ahead?tab=${tab}`).catch(() => null); // without it, the answer fetches its picture
  if (!reply || question !== asked) return;
  ahead = reply.rows;
  fetchAhead();
}

function fetchAhead() {
  const addresses = ahead.map((row) => stampAddress(row, plateSize()));
  for (const address of fetched.keys()) if (!addresses.includes(address)) fetched.delete(address);
  for (const address of addresses) if (!fetched.has(address)) fetched.set(address, make("img", { alt: "", src: address, draggable: "false" }));
}

// put the picture into its place when it can be shown at once
async function loadPicture(place, row, size = plateSize()) {
  const address = stampAddress(row, size), picture = fetched.get(address) ?? make("img", { alt: "", src: address, draggable: "false" });
  place.dataset.row = row;
  const ready = await picture.decode().then(() => true, () => false);
  if (place.dataset.row !== String(row)) return;
  place.replaceChildren(ready ? picture : make("p", {}, "The picture of this object could not be drawn. You can skip it."));
}

const REASONS = {
  random: "Chosen at random, to measure the accuracy",
  typical: "Typical of objects that have no label yet",
  uncertain: "The classifier is unsure of it",
  "second look": "A second look at your label",
};

async function setQuestion(next) {
  question = next;
  setView("one");
  Object.assign(shown, { x: 0, y: 0 });
  setZoom(shown.zoom);
  await loadPicture($(".picture"), next.row);
  shownAt = performance.now();
  heldMs = 0;
  const reason = !state.find ? REASONS[next.how] ?? "" : next.how === "random" ? "Chosen at random" : "The most promising of those left";
  $(".plate").setAttribute("aria-label", `Stamp of ${next.id}. ${reason}.`);
  $(".id").textContent = next.id;
  $(".why").textContent = `${reason}.`;
  $(".why").classList.toggle("random", next.how === "random");
  $(".comment input").value = "";
  foldComment(true);
  setSecondLook();
  $(".morphology-block h3").textContent = next.morphology_title;
  setFacts(".morphology", next.morphology.map((fact) => ({ ...fact, name: fact.name.replaceAll("_", " ") })));
  setThoughts();
  setFacts(".catalog", next.catalog);
  $(".links").replaceChildren(...next.links.filter((link) => link.href.startsWith("https://")).map((link) =>
    make("a", { href: link.href, target: "_blank", rel: "noopener noreferrer" }, link.name)));
  lookAhead();
}

function setSecondLook() {
  const { label, suggested } = question, block = $(".second");
  block.hidden = !label || question.how !== "second look";
  for (const button of $$(".classes button")) button.classList.toggle("given", button.dataset.class === label);
  if (block.hidden) return;
  block.replaceChildren("You called this one ", make("b", {}, label), ". ",
    ...(suggested ? ["The labels of objects like it say ", make("b", {}, suggested), ". "] : []), "Name it again, or ", make("br"),
    make("button", { type: "button", "aria-keyshortcuts": "k", onclick: () => keep() }, `Keep ${label} `, make("kbd", {}, "k")));
}

function setFacts(place, facts) {
  $(`${place}-block`).hidden = !facts.length;
  $(place).replaceChildren(...facts.flatMap(({ name, value, unit }) =>
    [make("dt", {}, name), make("dd", {}, unit ? `${value}\u00a0${unit}` : value)]));
}

// the accuracy is measured on random objects: whoever sees the classifier's opinion of them follows it
function setThoughts() {
  const { probabilities, neighbours, how } = question, blind = how === "random" && !question.label;
  const wanted = $(".show-thoughts").checked, thinks = probabilities.length > 0;
  $(".thoughts").hidden = !thinks && !blind;
  $(".switch").hidden = blind;
  $(".morphology-block").hidden = blind || !question.morphology.length;
  $(".neighbours-block").hidden = blind || !neighbours.length;
  $(".like").hidden = blind; // their labels would tell
  const place = $(".bars");
  if (blind) {
    place.replaceChildren(make("p", { class: "note" }, "What the network sees and thinks is hidden for this one: the accuracy counts answers that nothing has led."));
  } else if (wanted && thinks) {
    const colors = new Map(state.classes.map((c) => [c.name, hue(c.color)]));
    setBars(place, probabilities.map(({ name, p }) => [name, p, p.toFixed(2), colors.get(name) ?? "var(--accent)"]));
  } else place.replaceChildren();
  $(".neighbours").replaceChildren(...(blind ? [] : neighbours.slice(0, 4)).map((near) => make("li", { title: near.id },
    make("img", { src: stampAddress(near.row, 128), alt: `stamp of ${near.id}` }), make("b", {}, near.label), " ",
    make("small", {}, near.similarity.toFixed(2)))));
}

function answer(kind, cls = null) {
  return act(async () => {
    if (view() !== "one" || !question) return;
    const asked = question, before = best(asked);
    const seconds = secondsLooked();
    const what = cls ?? { skip: "skipped", unsure: "unsure", yes: `yes, ${state.find?.name}`, no: `not ${state.find?.name}` }[kind];
    flash(cls ?? kind);
    const body = {
      tab, row: asked.row, how: asked.how, class: cls, kind, seconds,
      comment: $(".comment input").value.trim(), who: who(),
    };
    const reply = await send("/api/answer", body, what);
    lastClass = cls ?? lastClass;
    const differs = cls && before && before.name !== cls && asked.how !== "random" && asked.how !== "second look";
    await show(reply);
    say(`${asked.id}: ${what}.${differs ? ` The classifier had thought ${before.name} (${before.p.toFixed(2)}).` : ""}`);
  });
}

const best = ({ probabilities }) => probabilities.reduce((top, one) => (!top || one.p > top.p ? one : top), null);

function flash(name) {
  const button = $$(".classes button, .others button").find((b) => b.dataset.class === name || b.dataset.do === name);
  button?.animate?.([{ background: hue("#56B4E9") }, {}], 350);
}

const keep = () => { if (question?.label) return answer("label", question.label); };

// ---- stretch, bands, zoom

function setBands() {
  const place = $(".bands"), names = state.bands ?? [];
  if (place.dataset.names === names.join("\n")) return;
  place.dataset.names = names.join("\n");
  place.hidden = names.length < 2;
  const choices = [["Colour", null], ...names.map((name) => [name, name])];
  place.replaceChildren(...choices.map(([name, bands]) => make("button", {
    type: "button", "aria-pressed": String(shown.bands === bands), title: bands ? `Only band ${name}` : "Three bands as a colour picture",
    onclick: (event) => {
      shown.bands = bands;
      for (const button of place.children) button.setAttribute("aria-pressed", String(button === event.target));
      redraw();
    },
  }, name)));
}

async function redraw() {
  if (!question) return;
  const mine = (redraw.number = (redraw.number ?? 0) + 1);
  await new Promise((resolve) => { setTimeout(resolve, 40); });
  if (mine !== redraw.number) return;
  await loadPicture($(".picture"), question.row);
  fetchAhead();
}

function setZoom(zoom, x = shown.x, y = shown.y) {
  shown.zoom = Math.min(Math.max(zoom, 1), FARTHEST);
  const most = (shown.zoom - 1) / 2;
  shown.x = Math.min(Math.max(x, -most), most);
  shown.y = Math.min(Math.max(y, -most), most);
  const { style } = $(".picture");
  style.setProperty("--zoom", shown.zoom);
  style.setProperty("--x", `${100 * shown.x}%`);
  style.setProperty("--y", `${100 * shown.y}%`);
  $(".plate").classList.toggle("near", shown.zoom > 1);
}

function listenToPlate() {
  const plate = $(".plate");
  let from = null;
  plate.addEventListener("wheel", (event) => {
    event.preventDefault();
    setZoom(shown.zoom * (event.deltaY < 0 ? 1.25 : 0.8));
  }, { passive: false });
  plate.addEventListener("dblclick", () => setZoom(shown.zoom > 1 ? 1 : 3, 0, 0));
  plate.addEventListener("pointerdown", (event) => {
    if (shown.zoom === 1 || event.target.closest("button")) return;
    from = [event.clientX / plate.clientWidth - shown.x, event.clientY / plate.clientHeight - shown.y];
    plate.setPointerCapture(event.pointerId);
  });
  plate.addEventListener("pointermove", (event) => {
    if (from) setZoom(shown.zoom, event.clientX / plate.clientWidth - from[0], event.clientY / plate.clientHeight - from[1]);
  });
  for (const end of ["pointerup", "pointercancel"]) plate.addEventListener(end, () => { from = null; });
}
