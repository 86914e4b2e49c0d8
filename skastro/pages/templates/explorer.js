// The interactive projection: BokehJS draws and selects, this script adds colours, lists and cards.
(() => {
  "use strict";
  const MOST_LISTED = 100, MOST_STAMPS = 60, MOST_FACTS = 12;
  const FAINT = { light: "#c3c9d0", dark: "#4a525c" };
  const FORMS = {
    circle: "M8 2a6 6 0 1 0 0 12a6 6 0 1 0 0-12z",
    square: "M3 3h10v10h-10z",
    triangle: "M8 2l6.5 11.5h-13z",
    diamond: "M8 1l5.5 7l-5.5 7l-5.5-7z",
    inverted_triangle: "M8 14l6.5-11.5h-13z",
    plus: "M6 1.5h4v4.5h4.5v4h-4.5v4.5h-4v-4.5h-4.5v-4h4.5z",
    hex: "M8 1.5l6 3.3v6.4l-6 3.3l-6-3.3v-6.4z",
    star: "M8 1l2 5h5l-4 3.5l1.5 5.5l-4.500-3.200l-4.500 3.200l1.500-5.500l-4-3.500h5z",
  };

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
  // four digits, and at least two after the point
  const number = (x) => {
    const whole = x ? Math.floor(Math.log10(Math.abs(x))) + 1 : 0;
    return String(Number(x.toPrecision(Math.min(Math.max(4, whole + 2), 17)))).replace("-", "\u2212");
  };
  const range = (n) => Array.from({ length: n }, (_, i) => i);
  const isDark = () =>
    (document.documentElement.dataset.theme
      || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

  class Explorer {
    constructor(root, data, plot, view) {
      Object.assign(this, { root, data, plot, view });
      this.n = data.ids.length;
      this.source = plot.document.get_model_by_name("objects");
      this.glyphs = plot.document.get_model_by_name("points");
      this.columns = new Map(data.columns.map((column) => [column.name, column]));
      this.by = data.color;
      this.similar = this.decode(data.similar); // rows of similar objects, by row
      this.alike = []; // the object asked for by "More like this", and those similar to it
      this.focus = null; // the class whose contact sheet is shown
      this.listen();
      this.fitSize();
      this.fillChoices();
      this.setMode(matchMedia("(pointer: coarse)").matches ? null : "pan");
      this.recolor();
      root.dataset.ready = "true";
    }

    find(name) { return this.root.querySelector(`.explorer-${name}`); }

    tool(type) { return this.plot.toolbar.tools.find((tool) => tool.type === type); }

    decode(text) { // 16-bit integers in base 64, as many for each object
      const bytes = text === null ? "" : atob(text);
      const rows = range(bytes.length / 2).map((i) => bytes.charCodeAt(2 * i) + 256 * bytes.charCodeAt(2 * i + 1));
      const k = rows.length / this.n;
      return k ? range(this.n).map((i) => rows.slice(k * i, k * (i + 1))) : null;
    }

    fitSize() { // points stay visible, and overlap little, on large and small screens
      const { clientWidth, clientHeight } = this.find("plot");
      const room = Math.sqrt((clientWidth * clientHeight) / this.n);
      this.glyphs.glyph.size = { value: Math.min(Math.max(0.42 * room, 3), 11) };
    }

    // ---- reactions to the user

    listen() {
      this.source.selected.properties.indices.change.connect(() => this.showSelection());
      this.tool("HoverTool").callback = (_, { geometry, index }) => this.hover(geometry, index.indices);
      // the frame around the plot shows the focus
      if (this.view.canvas_view?.events_el) this.view.canvas_view.events_el.style.outline = "none";
      this.find("plot").addEventListener("pointerleave", () => this.hideCard());
      this.find("by").addEventListener("change", (event) => {
        this.by = event.target.value;
        this.focus = null;
        this.recolor();
      });
      for (const button of this.root.querySelectorAll("[data-mode]")) {
        button.addEventListener("click", () =>
          this.setMode(button.getAttribute("aria-pressed") === "true" ? null : button.dataset.mode));
      }
      for (const button of this.root.querySelectorAll("[data-zoom]")) {
        button.addEventListener("click", () => this.zoom(Number(button.dataset.zoom)));
      }
      this.find("search").addEventListener("submit", (event) => {
        event.preventDefault();
        this.search(event.target.querySelector("input").value.trim());
      });
      this.find("clear").addEventListener("click", () => this.select([]));
      this.find("save").addEventListener("click", () => this.save());
      document.addEventListener("theme", () => this.recolor());
      addEventListener("resize", () => this.fitSize());
    }

    setMode(mode) {
      const types = { pan: "PanTool", box_select: "BoxSelectTool", lasso_select: "LassoSelectTool" };
      for (const [name, type] of Object.entries(types)) this.tool(type).active = name === mode;
      for (const button of this.root.querySelectorAll("[data-mode]")) {
        button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
      }
      // wheel and fingers scroll the page, unless the plot fills it or the mode is "Move"
      const touch = matchMedia("(pointer: coarse)").matches;
      this.tool("WheelZoomTool").active = touch ? mode === "pan" : Boolean(this.root.closest(".whole"));
      this.plot.toolbar.active_changed.emit();
    }

    zoom(factor) {
      if (!factor) return this.view.reset();
      for (const range of [this.plot.x_range, this.plot.y_range]) {
        const middle = (range.start + range.end) / 2, half = factor * (range.end - range.start) / 2;
        range.setv({ start: middle - half, end: middle + half });
      }
    }

    reveal(i) {
      for (const [range, values] of [[this.plot.x_range, this.source.data.x], [this.plot.y_range, this.source.data.y]]) {
        if (values[i] >= range.start && values[i] <= range.end) continue;
        const half = (range.end - range.start) / 2;
        range.setv({ start: values[i] - half, end: values[i] + half });
      }
    }

    search(text) {
      if (!text) return;
      const exact = this.data.ids.indexOf(text);
      const rows = exact >= 0 ? [exact] : range(this.n).filter((i) => this.data.ids[i].includes(text));
      this.select(rows);
      if (rows.length) this.reveal(rows[0]);
      else this.find("head").querySelector("h3").textContent = `No id contains \u201c${text}\u201d`;
    }

    showSimilar(i) {
      this.alike = [i, ...this.similar[i]];
      this.select(this.alike);
    }

    select(rows) { this.source.selected.indices = rows; }

    save() {
      const quoted = this.source.selected.indices.map((i) => {
        let id = this.data.ids[i];
        // spreadsheets run text that begins with these characters as a formula, unless it is a number
        if (/^[=+\-@\t\r]/.test(id) && Number.isNaN(Number(id))) id = `'${id}`;
        return /[",\r\n]/.test(id) ? `"${id.replaceAll('"', '""')}"` : id;
      });
      const link = make("a", { download: "selected_ids.csv" });
      link.href = URL.createObjectURL(new Blob([["id", ...quoted].join("\n") + "\n"], { type: "text/csv" }));
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    }

    // ---- colours

    fillChoices() {
      const choices = this.data.columns.filter((column) => column.kind !== "text");
      this.find("by").replaceChildren(...choices.map((column) => {
        const option = make("option", { value: column.name }, column.name);
        option.selected = column.name === this.by;
        return option;
      }));
      this.find("by").disabled = !choices.length;
    }

    classColor(code) {
      if (code < 0) return FAINT[isDark() ? "dark" : "light"];
      const color = this.data.colors[code % this.data.colors.length];
      return isDark() && color === "#000000" ? "#F0E442" : color; // the yellow of the palette, too pale on white
    }

    classMarker(code) { return code < 0 ? "circle" : this.data.markers[code % this.data.markers.length]; }

    ramp() { // without the end that is close to the colour of the background
      const { ramp } = this.data;
      return isDark() ? ramp.slice(Math.round(ramp.length * 0.2)) : ramp.slice(0, Math.round(ramp.length * 0.92));
    }

    limits(values) {
      const present = values.filter((x) => x !== null).sort((a, b) => a - b);
      if (!present.length) return [0, 1];
      return [0.02, 0.98].map((share) => present[Math.round(share * (present.length - 1))]);
    }

    recolor() {
      const column = this.columns.get(this.by);
      const faint = FAINT[isDark() ? "dark" : "light"];
      let color = Array(this.n).fill(faint), marker = Array(this.n).fill("circle"), alpha = Array(this.n).fill(0.85);
      if (column?.kind === "class") {
        color = column.values.map((code) => this.classColor(code));
        marker = column.values.map((code) => this.classMarker(code));
        if (this.focus !== null) alpha = column.values.map((code) => (code === this.focus ? 0.95 : 0.1));
        else alpha = column.values.map((code) => (code < 0 ? 0.6 : 0.85));
      } else if (column) {
        const [low, high] = this.limits(column.values), ramp = this.ramp();
        const position = (x) => Math.min(Math.max((x - low) / (high - low || 1), 0), 1);
        color = column.values.map((x) => (x === null ? faint : ramp[Math.round(position(x) * (ramp.length - 1))]));
      }
      const { x, y } = this.source.data;
      this.source.data = { x, y, color, marker, alpha };
      this.showLegend(column);
      this.showSheet(column);
      this.showSelection();
    }

    showLegend(column) {
      const legend = this.find("legend");
      if (column?.kind === "class") legend.replaceChildren(...this.classEntries(column));
      else legend.replaceChildren(...(column ? [this.colorBar(column)] : []));
    }

    classEntries(column) {
      const codes = [...column.levels.keys(), -1];
      const sizes = new Map(codes.map((code) => [code, 0]));
      for (const code of column.values) sizes.set(code, sizes.get(code) + 1);
      return codes.filter((code) => sizes.get(code)).map((code) => {
        const mark = document.createElementNS("http://www.w3.org/2000/svg", "svg");
        mark.setAttribute("viewBox", "0 0 16 16");
        mark.setAttribute("aria-hidden", "true");
        const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
        path.setAttribute("d", FORMS[this.classMarker(code)]);
        path.setAttribute("fill", this.classColor(code));
        mark.append(path);
        const name = this.className(column, code);
        return make("button", {
          type: "button",
          "data-code": code,
          "aria-pressed": String(this.focus === code),
          title: `Show ${name}`,
          onclick: () => this.toggleFocus(code),
        }, mark, make("span", {}, name), make("span", { class: "count" }, grouped(sizes.get(code))));
      });
    }

    toggleFocus(code) {
      this.focus = this.focus === code ? null : code;
      this.recolor();
      this.root.querySelector(`.explorer-legend [data-code="${code}"]`).focus({ preventScroll: true });
    }

    className(column, code) {
      if (code < 0) return column.missing;
      return column.name === this.data.cluster ? `cluster ${column.levels[code]}` : column.levels[code];
    }

    colorBar(column) {
      const [low, high] = this.limits(column.values);
      const step = (high - low) / 4, ticks = range(5).map((i) => low + i * step);
      // neighbouring ticks differ in their last two digits
      const decimals = Math.max(0, 1 - Math.floor(Math.log10(step || 1)));
      const tick = (x) => (decimals < 7 ? x.toFixed(decimals).replace("-", "\u2212") : number(x));
      const lost = column.values.filter((x) => x === null).length;
      const bar = make("div", { class: "bar" });
      bar.style.background = `linear-gradient(to right, ${this.ramp().join(",")})`;
      return make("div", { class: "explorer-ramp" },
        make("div", {}, this.label(column), make("span", { class: "note" }, " \u00b7 2nd to 98th percentile")),
        bar,
        make("div", { class: "ticks" }, ...ticks.map((x) => make("span", {}, tick(x)))),
        lost ? make("div", { class: "note" }, `${counted(lost, "object")} without a value, in grey`) : null);
    }

    label(column) { return column.unit ? `${column.name} (${column.unit})` : column.name; }

    // ---- cards, lists and contact sheets

    stamp(i) {
      const { sheet } = this.data;
      if (!sheet) return null;
      const style = `--c: ${i % sheet}; --r: ${Math.floor(i / sheet)}`;
      return make("span", { class: "stamp", role: "img", "aria-label": `stamp of ${this.data.ids[i]}`, style });
    }

    value(column, i) {
      const value = column.values[i];
      if (column.kind === "class") return value < 0 ? column.missing : column.levels[value];
      if (column.kind === "number" && value !== null) return column.exact ? String(value) : number(value);
      return value || "\u2013";
    }

    describe(i, most) {
      const rest = this.data.columns.filter((column) => column.name !== this.by);
      const chosen = [this.columns.get(this.by), ...rest].filter(Boolean).slice(0, most);
      const facts = chosen.flatMap((column) => {
        const mark = { class: column.name === this.by ? "by" : null };
        const value = this.value(column, i);
        const unit = column.unit && value !== "\u2013" ? `\u00a0${column.unit}` : "";
        return [make("dt", mark, column.name), make("dd", mark, value + unit)];
      });
      return [
        make("div", { class: "explorer-title" }, this.stamp(i), make("span", {}, this.data.ids[i])),
        make("dl", { class: "explorer-facts" }, ...facts),
      ];
    }

    actions(i) { // what can be done with one object
      const { sky } = this.data;
      const links = [];
      if (sky && sky.ra[i] !== null) {
        const ra = sky.ra[i].toFixed(6), dec = sky.dec[i].toFixed(6);
        const signed = dec.startsWith("-") ? dec : `%2B${dec}`;
        for (const [name, page] of Object.entries(sky.pages)) {
          const href = page.replaceAll("{ra}", ra).replaceAll("{dec}", dec).replaceAll("{signed_dec}", signed);
          links.push(make("a", { href, target: "_blank", rel: "noopener noreferrer" }, name));
        }
      }
      return [
        this.similar ? make("button", { type: "button", class: "explorer-alike", onclick: () => this.showSimilar(i) }, "More like this") : null,
        links.length ? make("div", { class: "explorer-links" }, ...links) : null,
      ].filter(Boolean);
    }

    hover(geometry, rows) {
      if (!rows.length) return this.hideCard();
      const card = this.find("card"), view = this.find("view"), plot = this.find("plot");
      if (this.hovered !== rows[0]) card.replaceChildren(...this.describe(rows[0], MOST_FACTS));
      this.hovered = rows[0];
      card.hidden = false;
      const gap = 16, width = card.offsetWidth, height = card.offsetHeight;
      const right = geometry.sx + gap + width <= view.clientWidth;
      card.style.left = `${Math.max(right ? geometry.sx + gap : geometry.sx - gap - width, 0)}px`;
      card.style.top = `${Math.max(Math.min(geometry.sy + gap, plot.clientHeight - height - 4), 4)}px`;
    }

    hideCard() {
      this.hovered = null;
      this.find("card").hidden = true;
    }

    showSelection() {
      const rows = this.source.selected.indices, list = this.find("list");
      const asked = rows.length > 1 && rows.length === this.alike.length && rows.every((i, place) => i === this.alike[place]);
      let title = rows.length ? `${counted(rows.length, "object")} selected` : "Nothing selected";
      if (asked) title = `${this.data.ids[rows[0]]} and the ${counted(rows.length - 1, "object")} most like it`;
      this.find("head").querySelector("h3").textContent = title;
      this.find("buttons").hidden = !rows.length;
      this.find("hint").hidden = rows.length > 0;
      this.find("object").replaceChildren(...(rows.length === 1 ? [...this.describe(rows[0], Infinity), ...this.actions(rows[0])] : []));
      list.hidden = rows.length < 2;
      list.replaceChildren(...(rows.length > 1 ? this.table(rows) : []));
    }

    table(rows) {
      const classes = this.data.columns.filter((column) => column.kind === "class" && column.name !== this.by);
      const shown = [this.columns.get(this.by), ...classes].filter(Boolean).slice(0, 2);
      const kind = (column) => ({ class: column.kind === "number" ? "number" : null });
      const head = make("tr", {},
        this.data.sheet ? make("th", { scope: "col" }, "stamp") : null,
        make("th", { scope: "col" }, "id"),
        ...shown.map((column) => make("th", { scope: "col", ...kind(column) }, this.label(column))));
      const lines = rows.slice(0, MOST_LISTED).map((i) => make("tr", {},
        this.data.sheet ? make("td", {}, this.stamp(i)) : null,
        make("td", { class: "id" }, make("button", { type: "button", onclick: () => this.pick(i) }, this.data.ids[i])),
        ...shown.map((column) => make("td", kind(column), this.value(column, i)))));
      const more = `The first ${MOST_LISTED} are listed; the CSV file has all ${grouped(rows.length)}.`;
      return [
        make("table", {}, make("thead", {}, head), make("tbody", {}, ...lines)),
        rows.length > MOST_LISTED ? make("p", { class: "note" }, more) : "",
      ];
    }

    pick(i) {
      this.select([i]);
      this.reveal(i);
    }

    showSheet(column) {
      const sheet = this.find("sheet");
      sheet.hidden = this.focus === null || column?.kind !== "class";
      if (sheet.hidden) return sheet.replaceChildren();
      const members = range(this.n).filter((i) => column.values[i] === this.focus);
      const order = this.columns.get(this.data.certainty[column.name] ?? this.data.certainty["*"]);
      if (order) members.sort((a, b) => (order.values[b] ?? -Infinity) - (order.values[a] ?? -Infinity));
      const shown = members.slice(0, MOST_STAMPS);
      const some = members.length > shown.length ? `${shown.length} of ${grouped(members.length)}` : `All ${grouped(members.length)}`;
      sheet.replaceChildren(
        make("div", { class: "explorer-head" },
          make("h3", {}, column.name === this.data.cluster ? this.className(column, this.focus) : `${column.name}: ${this.className(column, this.focus)}`),
          make("button", { type: "button", onclick: () => this.select(members) }, "Select all")),
        make("p", { class: "note" }, order ? `${some}, largest ${order.name} first.` : `${some}.`),
        make("div", { class: "explorer-stamps" }, ...shown.map((i) => make("button", {
          type: "button",
          title: this.data.ids[i],
          onclick: () => this.pick(i),
        }, this.stamp(i) ?? this.data.ids[i]))));
    }
  }

  // WebGL without a graphics card is slower than the canvas
  function hasFastWebGL() {
    const context = document.createElement("canvas").getContext("webgl");
    const names = context?.getExtension("WEBGL_debug_renderer_info");
    if (!names) return false;
    return !/swiftshader|llvmpipe|software|basic render/i.test(context.getParameter(names.UNMASKED_RENDERER_WEBGL));
  }

  async function start() {
    const root = document.querySelector(".explorer");
    const data = JSON.parse(document.querySelector(".explorer-data").textContent);
    const place = root.querySelector(".explorer-plot");
    place.id ||= "explorer-plot";
    if (!hasFastWebGL()) data.plot.doc.roots[0].attributes.output_backend = "canvas";
    const views = await Bokeh.embed.embed_item(data.plot, place.id);
    const view = [...views.roots ?? views][0];
    new Explorer(root, data, view.model, view);
  }
  start();
})();
