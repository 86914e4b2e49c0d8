// The curve of accuracy against labels, and bars: pictures as inline SVG, readable in grey.
function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function drawBar(share, color) {
  const width = Math.min(Math.max(100 * share, share > 0 ? 1 : 0), 100);
  return draw("svg", { viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true" },
    draw("rect", { width, height: 4, fill: color }));
}

// round numbers between two ends, at most five
function ticks(low, high) {
  const step = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000]
    .find((width) => (high - low) / width <= 4.5) ?? high - low;
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9; k += 1) found.push(k * step);
  return { step, found };
}

// known: [{n, value, low, high}], ahead: [{n, mean, low, high}]
function drawCurve(known, ahead) {
  const width = 310, height = 160, left = 30, right = 8, top = 8, bottom = 34;
  const points = known.filter((p) => p.value !== null);
  const now = points.at(-1);
  const future = ahead.map((p) => ({ n: p.n, value: p.mean, low: p.low, high: p.high })).filter((p) => p.n > now.n);
  if (future.length) future.unshift(now);
  const all = [...points, ...future];
  const most = Math.max(...all.map((p) => p.n));
  let low = Math.min(...all.map((p) => p.low ?? p.value)), high = Math.max(...all.map((p) => p.high ?? p.value));
  low = Math.max(0, Math.min(Math.floor(10 * low) / 10, high - 0.2));
  high = Math.min(1, Math.max(Math.ceil(10 * high) / 10, low + 0.2));
  const x = (n) => left + (n / most) * (width - left - right);
  const y = (value) => top + ((high - value) / (high - low)) * (height - top - bottom);
  const place = (n, value) => `${x(n).toFixed(1)},${y(value).toFixed(1)}`;
  const line = (list, key) => list.map((p) => place(p.n, p[key] ?? p.value)).join(" ");
  const area = (list) => `${line(list, "high")} ${line([...list].reverse(), "low")}`;
  const frame = [];
  const upright = ticks(low, high);
  for (const value of upright.found) {
    frame.push(draw("line", { class: "axis", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
      draw("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(upright.step < 0.1 ? 2 : 1)));
  }
  for (const n of ticks(0, most).found) {
    frame.push(draw("text", { x: x(n), y: height - bottom + 16, "text-anchor": "middle" }, String(n)));
  }
  frame.push(draw("text", { x: (left + width - right) / 2, y: height - 3, "text-anchor": "middle" }, "number of labels"));
  const hatch = draw("pattern", { id: "hatch", width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    draw("line", { class: "hatch", x1: 0, x2: 0, y1: 0, y2: 5 }));
  const title = `Balanced accuracy against the number of labels: ${now.value.toFixed(2)} at ${now.n} labels`
    + (future.length ? `, and a forecast of ${future.at(-1).low.toFixed(2)} to ${future.at(-1).high.toFixed(2)} at ${future.at(-1).n}.` : ".");
  return draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title },
    draw("defs", {}, hatch), ...frame,
    draw("polygon", { class: "known-band", points: area(points) }),
    ...(future.length ? [
      draw("polygon", { class: "ahead-fill", points: area(future) }),
      draw("polyline", { class: "ahead-band", points: line(future, "low") }),
      draw("polyline", { class: "ahead-band", points: line(future, "high") }),
      draw("polyline", { class: "ahead", points: line(future, "value") }),
    ] : []),
    draw("polyline", { class: "known", points: line(points, "value") }),
    draw("circle", { class: "now", cx: x(now.n), cy: y(now.value), r: 4.5 }));
}
