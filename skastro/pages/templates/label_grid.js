// The grid: 25 stamps that the classifier takes for one class, or that are most like one object.

const HOW = {
  class: ["Mark those that are not (click, or arrow keys and space), then press Enter for all the others.", "Tap those that are not, then name all the others."],
  like: ["Mark those that you leave out (click, or arrow keys and space). Name the class of all the others by its key, and press Enter. Labels that are there stay.",
    "Tap those that you leave out, and choose the class of all the others. Labels that are there stay."],
};

function setGridClasses() {
  const place = $(".grid-classes"), names = state.classes.map((c) => c.name);
  if (place.dataset.names !== JSON.stringify(names)) {
    place.dataset.names = JSON.stringify(names);
    place.replaceChildren(...state.classes.map((c) => make("button", { type: "button", "data-class": c.name, onclick: () => chooseClass(c.name) },
      c.name, " ", make("kbd", {}, nameOfKey(c.key)))));
  }
  for (const button of place.children) button.setAttribute("aria-pressed", String(button.dataset.class === gridClass));
}

const openGrid = (name) => act(() => loadGrid(name));
const openSimilar = (row) => act(() => loadSimilar(row));

// of objects like one, the class is that of all of them: no others are shown
function chooseClass(name) {
  if (seed === null) return openGrid(name);
  gridClass = name;
  setGridClasses();
  for (const button of $$(".cell")) nameCell(button);
  countMarks();
}

async function loadGrid(name) {
  const reply = await call(`/api/grid?${new URLSearchParams({ class: name, tab })}`), n = reply.cells.length;
  seed = null;
  gridClass = reply.class;
  await setCells(reply.cells, n ? `The classifier takes ${n === 1 ? "this one" : `these ${n}`} for ${gridClass}`
    : `The classifier takes no object without a label for ${gridClass}`);
  if (!n) say("Label a few objects of at least two classes first, or choose another class.");
}

async function loadSimilar(row) {
  const reply = await call(`/api/similar/${row}?${new URLSearchParams({ tab })}`);
  seed = row;
  gridClass = reply.cells[0].label; // that of the first object, or none yet
  await setCells(reply.cells, `${reply.cells[0].id}, and the objects most like it`);
}

async function setCells(found, title) {
  cells = found;
  setView("grid");
  setGridClasses();
  const n = cells.length;
  $("#grid-title").textContent = title;
  $(".grid-how").hidden = !n;
  $(".grid-how").textContent = HOW[seed === null ? "class" : "like"][Number(phone.matches)];
  const pictures = cells.map((cell, i) => {
    const picture = make("img", { alt: "", src: stampAddress(cell.row, 192), draggable: "false" });
    const button = make("button", {
      type: "button", class: "cell", "data-row": cell.row, "aria-pressed": "false", tabindex: i ? "-1" : "0", title: cell.id,
      onclick: () => { mark(button); reach(button); },
    }, picture);
    for (const way of ["focus", "pointerenter"]) button.addEventListener(way, () => enlarge(cell));
    nameCell(button);
    return [button, picture.decode().catch(() => null)];
  });
  await Promise.race([Promise.all(pictures.map(([, ready]) => ready)), new Promise((resolve) => { setTimeout(resolve, 1500); })]);
  $(".cells").replaceChildren(...pictures.map(([button]) => button));
  shownAt = performance.now();
  heldMs = 0;
  countMarks();
  ($(".cells button") ?? $(".grid-foot [data-do=one]")).focus({ preventScroll: true });
}

function enlarge({ row, id }) {
  $(".large figcaption").textContent = id;
  if (!phone.matches) loadPicture($(".large-picture"), row, 384);
}

const labelOf = (button) => cells.find((cell) => String(cell.row) === button.dataset.row).label ?? null;

// what a stamp is called now, or will be
function nameCell(button) {
  const marked = button.getAttribute("aria-pressed") === "true", label = labelOf(button);
  const text = label ?? (!marked ? null : seed === null ? `not ${gridClass}` : "left out");
  button.setAttribute("aria-label", `${button.title}: ${text ?? gridClass ?? "no class yet"}`);
  button.querySelector(".mark")?.remove();
  if (text) button.append(make("span", { class: label ? "mark given" : "mark" }, text));
}

function mark(button) {
  if (labelOf(button)) return;
  button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
  nameCell(button);
  countMarks();
}

const isOpen = ({ label }) => !label;

function countMarks() {
  const open = cells.filter(isOpen).length, n = open - $$(".cell[aria-pressed=true]").length, button = $("[data-do=send]");
  button.hidden = !open;
  button.disabled = !gridClass;
  button.replaceChildren(...(gridClass ? [n ? `Call ${n === open ? `all ${n}` : n} ${gridClass} ` : "Call none of them so ", make("kbd", {}, "Enter")]
    : ["Choose a class"]));
}

function reach(button) {
  for (const cell of $$(".cell")) cell.tabIndex = cell === button ? 0 : -1;
  button.focus();
}

function walk(key) {
  const all = $$(".cell"), step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -5, ArrowDown: 5 }[key];
  const now = Math.max(all.indexOf(document.activeElement), 0);
  if (all[now + step]) reach(all[now + step]);
}

const sendGrid = () => act(async () => {
  if (!cells?.some(isOpen)) return;
  if (!gridClass) return say("Press the key of a class first.", true);
  const all = cells.filter(isOpen).map((cell) => cell.row), not = $$(".cell[aria-pressed=true]").map((cell) => Number(cell.dataset.row));
  const seconds = secondsLooked(), n = all.length - not.length, name = gridClass;
  // objects of a grid that are not of its class are asked one by one later, those like another are not
  const rest = seed === null ? { rows: all, not } : { rows: all.filter((row) => !not.includes(row)) };
  setState(await send("/api/grid", { tab, class: name, seconds, who: who(), ...rest }, `${n} times ${name}`));
  lastClass = name;
  if (seed === null) await loadGrid(name);
  else await show(await call(`/api/next?tab=${tab}`));
  say(`${n} called ${name}${not.length ? `; ${not.length} left without a label` : ""}.`);
});
