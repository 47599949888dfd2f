"use strict";
/* Parallel coordinates: a line for each run through its choices to its result.

   Axes are the keys that differ and the metric, placed over all runs, so that a filter moves nothing. A brush is a
   part [low, high] of an axis, 0 at the bottom and 1 at the top; it is dragged with the mouse or a finger, or set with
   the arrow keys on its two handles, and narrows every section of the page. Brushes are kept as "low:high:key". */

const MOST_AXES = 9;
const PLOT = { height: 340, top: 54, bottom: 30, side: 62, least: 108, most: 420 };

/** Return the axes, most important key first and the metric last: {key, place(run), marks: [[position, text]]}. */
function parallelAxes(content, groupOf) {
  const runs = content.runs ?? [];
  const rank = new Map((content.importance ?? []).map((item) => [item.key, item.share]));
  const keys = [...new Set(runs.flatMap((run) => Object.keys({ ...groupOf(run).values, ...run.config })))];
  const axes = sorted(keys, (key) => rank.get(key) ?? 0, true)
    .map((key) => makeAxis(key, runs, (run) => entry(run.config, key) ?? entry(groupOf(run).values, key)))
    .filter(Boolean);
  const result = makeAxis(content.metric ?? "value", runs, (run) => run.value);
  const shown = [...axes.slice(0, MOST_AXES - 1), result].filter(Boolean);
  return Object.assign(shown, { left: axes.length - MOST_AXES + 1 });
}

function makeAxis(key, runs, read) {
  const values = runs.map(read).filter((value) => value !== null && value !== undefined);
  const distinct = [...new Set(values.map((value) => (isNumber(value) ? value : asText(value))))];
  if (distinct.length < 2) return null;
  const numbers = distinct.every(isNumber) && distinct.length > 2;
  return { key, read, ...(numbers ? numberScale(distinct, read) : choiceScale(distinct, read)) };
}

function numberScale(values, read) {
  const [low, high] = values.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
  const log = low > 0 && high / low > 30;
  const at = (value) => (log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low));
  const back = (position) => (log ? low * (high / low) ** position : low + position * (high - low));
  const marks = values.length <= 6 ? values.map(at) : [0, 0.25, 0.5, 0.75, 1];
  return {
    place: (run) => (isNumber(read(run)) ? at(read(run)) : null), step: 0.05,
    say: (position) => short(back(position)), marks: marks.map((position) => [position, short(back(position))]),
  };
}

function choiceScale(values, read) {
  const names = sorted(values, (value) => value).map(asText);
  const at = (name) => names.indexOf(name) / (names.length - 1);
  const every = Math.ceil(names.length / 12);
  return {
    place: (run) => ((read(run) ?? null) === null ? null : at(asText(read(run)))), step: 1 / (names.length - 1),
    say: (position) => names[Math.round(position * (names.length - 1))],
    marks: names.filter((_, index) => index % every === 0).map((name) => [at(name), name]),
  };
}

function readBrushes(texts) {
  return new Map(texts.map((text) => /^([\d.]+):([\d.]+):([^]*)$/.exec(text)).filter(Boolean)
    .map(([, low, high, key]) => [key, [Number(low), Number(high)]]));
}

function insideBrushes(run, axes, brushes) {
  return axes.every((axis) => {
    if (!brushes.has(axis.key)) return true;
    const [low, high] = brushes.get(axis.key);
    const at = axis.place(run);
    return at !== null && at >= low - 1e-9 && at <= high + 1e-9;
  });
}

function setBrush(key, low, high) {
  const inside = (part) => Number(Math.min(1, Math.max(0, part)).toFixed(3));
  const brushes = readBrushes(state.brush).set(key, [inside(low), inside(high)]);
  if (low <= 0 && high >= 1) brushes.delete(key);
  choose({ brush: [...brushes].map(([name, [from, to]]) => `${from}:${to}:${name}`) }, true);
}

function renderParallel() {
  const axes = view.axes;
  if (axes.length < 2) return fill("parallel-plot", empty("This needs two runs with different choices and results."));
  const room = byId("parallel-plot").clientWidth - 2 * PLOT.side;
  const gap = Math.min(PLOT.most, Math.max(PLOT.least, room / (axes.length - 1)));
  const across = (index) => PLOT.side + index * gap;
  const chosen = new Set(view.runs);
  const order = [...view.plotted].sort((a, b) => chosen.has(a) - chosen.has(b));
  const lines = order.map((run) => parallelLine(run, axes, across, chosen.has(run)));
  const brushes = readBrushes(state.brush);
  const width = across(axes.length - 1) + PLOT.side;
  const plot = h("svg", { viewBox: `0 0 ${width} ${PLOT.height}`, width, height: PLOT.height, role: "group",
    "aria-label": "A line for each run through its choices to its result", class: "parallel" },
  h("g", { "aria-hidden": "true", class: chosen.size > 100 ? "many" : null }, lines),
  axes.map((axis, index) => parallelAxis(axis, across(index), brushes.get(axis.key))));
  const hint = "Drag along an axis to keep only those runs on the whole page. With the keyboard, move the handles of an"
    + " axis with the arrow keys and free it with Escape."
    + (axes.left > 0 ? ` Left out: ${count(axes.left, "less important key")}.` : "");
  fill("parallel-plot", h("div", { class: "scroll" }, plot), h("p", { class: "about" }, hint));
}

function heightOf(position) {
  return PLOT.height - PLOT.bottom - position * (PLOT.height - PLOT.top - PLOT.bottom);
}

function parallelLine(run, axes, across, chosen) {
  const points = axes.map((axis, index) => [across(index), axis.place(run)]).filter(([, place]) => place !== null);
  const d = points.map(([x, place], index) => {
    const y = heightOf(place).toFixed(1);
    const middle = index && (x + points[index - 1][0]) / 2;
    return index ? `C${middle} ${heightOf(points[index - 1][1]).toFixed(1)} ${middle} ${y} ${x} ${y}` : `M${x} ${y}`;
  }).join("");
  const kind = chosen ? `run ${markOf(view.groupOf(run))}` : "run away";
  return h("path", { d, class: kind }, h("title", {}, `${labelOf(run)}: ${fixed(run.value)}`));
}

function parallelAxis(axis, x, brush) {
  const [low, high] = brush ?? [0, 1];
  const name = axis.key.split(".").at(-1).replace(/^.*\//, "");
  const cut = (text) => (text.length > 16 ? text.slice(0, 15) + "…" : text);
  const marks = axis.marks.map(([position, text]) => h("text", { x: x + 12, y: heightOf(position) + 4 }, cut(text)));
  const [top, length] = [heightOf(1), heightOf(0) - heightOf(1)];
  const area = h("rect", { class: "area", x: x - 14, y: top - 10, width: 28, height: length + 20 });
  const part = h("rect", { class: brush ? "part" : "part none", x: x - 5, width: 10 });
  placePart(part, low, high);
  const drag = (stays) => (event) => dragBrush(event, axis, area, part, stays);
  area.addEventListener("pointerdown", drag());
  return h("g", { class: "axis" },
    h("text", { class: "name", x, y: 20, "text-anchor": "middle" }, cut(name), h("title", {}, axis.key)),
    h("line", { x1: x, x2: x, y1: heightOf(0), y2: top }), marks, part, area,
    handle(axis, x, "lowest", low, drag(high), (value) => setBrush(axis.key, Math.min(value, high), high)),
    handle(axis, x, "highest", high, drag(low), (value) => setBrush(axis.key, low, Math.max(value, low))));
}

function placePart(part, low, high) {
  part.setAttribute("y", heightOf(high));
  part.setAttribute("height", Math.max(1, heightOf(low) - heightOf(high)));
}

function handle(axis, x, which, value, onpointerdown, set) {
  const [y, side] = [heightOf(value), which === "highest" ? -1 : 1];
  const move = { ArrowUp: axis.step, ArrowRight: axis.step, ArrowDown: -axis.step, ArrowLeft: -axis.step };
  const onkeydown = (event) => {
    if (event.key === "Escape") setBrush(axis.key, 0, 1);
    else if (event.key === "Home" || event.key === "End") set(event.key === "Home" ? 0 : 1);
    else if (move[event.key]) set(Math.min(1, Math.max(0, value + move[event.key])));
    else return;
    event.preventDefault();
  };
  return h("path", {
    class: "handle", d: `M${x - 7} ${y}H${x + 7}L${x} ${y + side * 9}Z`, tabindex: 0, role: "slider", onkeydown,
    onpointerdown,
    "aria-label": `${axis.key}, ${which} shown`, "aria-orientation": "vertical", "aria-valuemin": 0,
    "aria-valuemax": 100, "aria-valuenow": Math.round(value * 100), "aria-valuetext": axis.say(value),
    "data-focus": `brush ${which} ${axis.key}`,
  });
}

/** Follow the pointer along an axis, from where it went down or from `stays`, the other end when a handle is
    dragged; the brush is set when it is let go. A click without a move frees the axis. */
function dragBrush(event, axis, area, part, stays) {
  const box = area.ownerSVGElement.getBoundingClientRect();
  const at = ({ clientY }) => {
    const y = ((clientY - box.top) / box.height) * PLOT.height;
    return Math.min(1, Math.max(0, (heightOf(0) - y) / (heightOf(0) - heightOf(1))));
  };
  const from = stays ?? at(event);
  const ends = (now) => [Math.min(from, at(now)), Math.max(from, at(now))];
  const move = (now) => {
    part.classList.remove("none");
    placePart(part, ...ends(now));
  };
  dragging = true;
  area.setPointerCapture(event.pointerId);
  area.addEventListener("pointermove", move);
  const end = (now) => {
    dragging = false;
    const [low, high] = now.type === "pointerup" ? ends(now) : [0, 0];
    if (high - low < 0.01) setBrush(axis.key, 0, 1);
    else setBrush(axis.key, low, high);
  };
  area.addEventListener("pointerup", end, { once: true });
  area.addEventListener("pointercancel", end, { once: true });
}
