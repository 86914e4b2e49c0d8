// The grid: 25 stamps that the classifier takes for one class.

function setGridClasses() {
  const place = $(".grid-classes"), names = state.classes.map((c) => c.name);
  if (place.dataset.names !== JSON.stringify(names)) {
    place.dataset.names = JSON.stringify(names);
    place.replaceChildren(...state.classes.map((c) => make("button", { type: "button", "data-class": c.name, onclick: () => openGrid(c.name) },
      c.name, " ", c.key ? make("kbd", {}, c.key) : "")));
  }
  for (const button of place.children) button.setAttribute("aria-pressed", String(button.dataset.class === gridClass));
}

const openGrid = (name) => act(() => loadGrid(name));

async function loadGrid(name) {
  const reply = await call(`/api/grid?${new URLSearchParams({ class: name, tab })}`);
  gridClass = reply.class;
  cells = reply.cells;
  setView("grid");
  setGridClasses();
  const n = cells.length;
  $("#grid-title").textContent = n ? `The classifier takes ${n === 1 ? "this one" : `these ${n}`} for ${gridClass}`
    : `The classifier takes no object without a label for ${gridClass}`;
  $(".grid-how").hidden = !n;
  const pictures = cells.map((cell, i) => {
    const picture = make("img", { alt: "", src: stampAddress(cell.row, 192), draggable: "false" });
    const button = make("button", {
      type: "button", class: "cell", "data-row": cell.row, "aria-pressed": "false", tabindex: i ? "-1" : "0", title: cell.id,
      onclick: () => { mark(button); reach(button); },
    }, picture);
    for (const way of ["focus", "pointerenter"]) button.addEventListener(way, () => enlarge(cell));
    nameCell(button, cell.id);
    return [button, picture.decode().catch(() => null)];
  });
  await Promise.race([Promise.all(pictures.map(([, ready]) => ready)), new Promise((resolve) => { setTimeout(resolve, 1500); })]);
  $(".cells").replaceChildren(...pictures.map(([button]) => button));
  shownAt = performance.now();
  heldMs = 0;
  countMarks();
  if (!n) say("Label a few objects of at least two classes first, or choose another class.");
  ($(".cells button") ?? $(".grid-foot [data-do=one]")).focus({ preventScroll: true });
}

function enlarge({ row, id }) {
  $(".large figcaption").textContent = id;
  if (!phone.matches) loadPicture($(".large-picture"), row, 384);
}

function nameCell(button, id) {
  const marked = button.getAttribute("aria-pressed") === "true";
  button.setAttribute("aria-label", `${id}: ${marked ? "not " : ""}${gridClass}`);
  button.querySelector(".mark")?.remove();
  if (marked) button.append(make("span", { class: "mark" }, `not ${gridClass}`));
}

function mark(button) {
  button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
  nameCell(button, button.title);
  countMarks();
}

function countMarks() {
  const n = cells.length - $$(".cell[aria-pressed=true]").length;
  const button = $("[data-do=send]");
  button.hidden = !cells.length;
  button.replaceChildren(n ? `Call ${n === cells.length ? `all ${n}` : n} ${gridClass} ` : "Call none of them so ", make("kbd", {}, "Enter"));
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
  if (!cells?.length) return;
  const rows = cells.map((cell) => cell.row), not = $$(".cell[aria-pressed=true]").map((cell) => Number(cell.dataset.row));
  const seconds = secondsLooked(), n = rows.length - not.length, name = gridClass;
  const body = { tab, class: name, rows, not, seconds, who: who() };
  setState(await send("/api/grid", body, `${n} times ${name}`));
  lastClass = name;
  await loadGrid(name);
  say(`${n} called ${name}${not.length ? `; ${not.length} left without a label` : ""}.`);
});
