"use strict";
/* The section on a sweep: a point for each trial that has ended, and the best so far as a line. */

const HISTORY = { width: 760, height: 240, left: 64, right: 16, top: 14, bottom: 30 };

function renderSweep() {
  const sweep = content.sweep;
  byId("sweep").hidden = !sweep;
  if (!sweep) return;
  const rows = sweep.history;
  const done = rows.filter((row) => isNumber(row.value));
  const ended = (state) => rows.filter((row) => row.state === state).length;
  const words = `${count(rows.length, "trial")} of ${sweep.name}: ${ended("done")} done, ${ended("pruned")} pruned, `
    + `${ended("failed")} failed. ${sweep.metric}, ${sweep.better} is better.`;
  if (done.length < 2) return fill("sweep-plot", h("p", { class: "about" }, words), empty("Too few trials to draw."));
  const values = done.map((row) => row.value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const last = Math.max(...rows.map((row) => row.trial));
  const across = (trial) => HISTORY.left + (trial - 1) / Math.max(1, last - 1)
    * (HISTORY.width - HISTORY.left - HISTORY.right);
  const down = (value) => HISTORY.top + (high - value) / (high - low || 1)
    * (HISTORY.height - HISTORY.top - HISTORY.bottom);
  const floor = HISTORY.height - HISTORY.bottom;
  const line = rows.filter((row) => isNumber(row.best)).map((row, index, all) => {
    const x = across(row.trial).toFixed(1);
    const step = index ? `H${x}` : `M${x} ${down(row.best).toFixed(1)}`;
    return index && row.best !== all[index - 1].best ? `${step}V${down(row.best).toFixed(1)}` : step;
  }).join("");
  const points = done.map((row) => h("circle", { cx: across(row.trial), cy: down(row.value), r: 4, class: "trial" },
    h("title", {}, `trial ${row.trial}: ${short(row.value)}  ${row.choices}`)));
  const others = rows.filter((row) => !isNumber(row.value)).map((row) => h("line", {
    x1: across(row.trial), x2: across(row.trial), y1: floor - 5, y2: floor + 3, class: row.state,
  }, h("title", {}, `trial ${row.trial}, ${row.state}: ${row.choices}`)));
  const marks = [[high, "end"], [low, "end"]].map(([value, anchor]) => h("text", {
    x: HISTORY.left - 8, y: down(value) + 4, "text-anchor": anchor }, short(value)));
  const numbers = [1, last].map((trial) => h("text", {
    x: across(trial), y: HISTORY.height - 8, "text-anchor": trial === 1 ? "start" : "end" }, `trial ${trial}`));
  const plot = h("svg", { viewBox: `0 0 ${HISTORY.width} ${HISTORY.height}`, class: "history", role: "img",
    "aria-label": `${words} The best is ${short(rows.at(-1).best)}.` },
  h("line", { x1: HISTORY.left, x2: HISTORY.width - HISTORY.right, y1: floor, y2: floor, class: "axis" }),
  h("path", { d: line, class: "best" }), others, points, marks, numbers);
  fill("sweep-plot", h("p", { class: "about" }, words), h("div", { class: "scroll" }, plot),
    h("p", { class: "about" }, "A point is a trial that is done, a short line one that was pruned (grey) or failed (red);"
      + " the steps are the best so far."));
}
