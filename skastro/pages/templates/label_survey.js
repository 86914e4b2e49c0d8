// What the server knows of the survey: counts, accuracy, forecast, and the buttons of the classes.

function setState(late) {
  state = late;
  const { find } = state;
  $(".tally").textContent = `${grouped(state.n_labelled)} of ${counted(state.n_objects, "object")} ${find ? "looked at" : "labelled"}`;
  document.title = `${state.n_labelled} labelled \u00b7 ${state.title}`;
  $("h1").textContent = state.title;
  if (view() === "wait" && state.progress) showWait();
  setButtons();
  setGridClasses();
  $(".views [data-do=doubtful]").disabled = !state.n_doubtful;
  $(".doubtful").textContent = state.n_doubtful || "";
  for (const part of ["accuracy", "tallies"]) $(`.survey .${part}`).hidden = Boolean(find);
  $(".hunt").hidden = !find;
  $("[data-do=new]").hidden = Boolean(find);
  $(".survey-fold > summary").textContent = find ? "How much was found?" : "How good is it now?";
  if (find) setHunt(find);
  else setAccuracy();
  setBars($(".counts"), state.classes.map((c) => [c.name, c.n / Math.max(1, ...state.classes.map((k) => k.n)), grouped(c.n), hue(c.color)]));
  const left = [];
  if (!find) {
    left.push(`The classifier is unsure of ${counted(state.n_unsure, "object")} without a label.`);
    if (state.n_doubtful) left.push(`Doubtful labels: ${grouped(state.n_doubtful)}. A second look shows them again.`);
  }
  if (state.n_skipped) left.push(`${grouped(state.n_skipped)} skipped or unsure.`);
  $(".left").replaceChildren(...left.map((text) => make("p", {}, text)));
  $(".left").hidden = !left.length;
  $(".journal .note").textContent = `Each answer is saved in ${state.journal} before the next stamp is shown.`;
  setBands();
}

function setAccuracy() {
  const { accuracy, curve, forecast } = state, figure = $(".accuracy .figure");
  const known = Boolean(accuracy) && typeof accuracy.value === "number";
  figure.classList.toggle("none", !known);
  if (known) {
    figure.replaceChildren(accuracy.value.toFixed(2), " ",
      make("small", {}, `${accuracy.low.toFixed(2)} to ${accuracy.high.toFixed(2)}`));
  } else figure.textContent = "Unknown so far: it needs ten labels, some of them of objects chosen at random, one question in six.";
  $(".accuracy .note").textContent = known
    ? `90\u00a0% interval, from ${counted(accuracy.n_random, "label")} of objects chosen at random, and from how sure the classifier is of all objects.` : "";
  const points = curve.filter((p) => typeof p.value === "number");
  $(".curve").replaceChildren(...(points.length > 1 ? [drawCurve(points, forecast?.points ?? [])] : []));
  $(".forecast").replaceChildren(...(forecast ? [make("b", {}, "Forecast: "), `${forecast.text}.`.replace("..", "."),
    make("span", { class: "note" }, forecast.points.length ? " Dashed in the picture." : "")] : []));
}

function setHunt({ name, found, looked, by_chance: chance, text }) {
  const most = Math.max(found, chance ?? 0, 1);
  const bars = make("div");
  setBars(bars, [["found", found / most, grouped(found), "var(--accent)"],
    ...(typeof chance === "number" ? [["by chance", chance / most, chance.toFixed(1), "var(--soft)"]] : [])]);
  $(".hunt").replaceChildren(
    make("h3", {}, `Search for: ${name}`),
    make("p", { class: "figure" }, `${grouped(found)} found `, make("small", {}, `in ${grouped(looked)} looked at`)),
    bars,
    make("p", { class: "note" }, text));
}

// rows: [name, share of the full width, text, colour]
function setBars(place, rows) {
  place.replaceChildren(...rows.map(([name, share, text, color]) => make("div", { class: "bar-row" },
    make("span", { class: "label", title: name }, name), drawBar(share, color), make("span", { class: "value" }, text))));
}

// the buttons stay the same elements while only counts change, so that the focus stays
function setButtons() {
  const place = $(".classes"), find = state.find;
  const choices = find
    ? [{ name: "yes", label: `Yes, ${find.name}`, key: "y", color: "#0072B2" }, { name: "no", label: "No", key: "n", color: "#D55E00" }]
    : state.classes.map((c) => ({ ...c, label: c.name }));
  if (place.dataset.names !== JSON.stringify(choices.map((c) => c.name))) {
    place.dataset.names = JSON.stringify(choices.map((c) => c.name));
    place.replaceChildren(...choices.map((c) => make("button", {
      type: "button", "data-class": c.name, "aria-keyshortcuts": /[A-Z]/.test(c.key) ? `Shift+${c.key}` : c.key,
      onclick: () => (find ? answer(c.name) : answer("label", c.name)),
    }, make("kbd", {}, nameOfKey(c.key)), make("span", { class: "label" }, c.label), make("span", { class: "count" }))));
  }
  for (const [i, button] of [...place.children].entries()) {
    button.style.setProperty("--hue", hue(choices[i].color));
    const count = find ? "" : grouped(choices[i].n);
    button.lastElementChild.textContent = count;
    button.setAttribute("aria-label", find ? choices[i].label : `${choices[i].label}, ${counted(choices[i].n, "label")}`);
  }
}
