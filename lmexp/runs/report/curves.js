"use strict";
/* Learning curves: a line for the mean over a group's seeds and a band from the lowest to the highest seed.

   The common grid is every x that a visible run has, thinned to GRID points: runs logged at the same steps are shown
   exactly, others are interpolated between their own points and never continued beyond them. The mean goes as far as
   every seed goes; seeds that did not finish count only where none did. uPlot draws; the legend and the letters at the
   ends of the lines are ours. */

const GRID = 600;
const FIRST_CURVES = 12;
const DASHES = [[], [10, 5], [3, 4], [12, 4, 3, 4]];
const ACROSS = {
  step: ["steps", (value) => short(value)], tokens: ["tokens", (value) => compact(value)],
  flops: ["FLOPs", (value) => compact(value)], seconds: ["time", (value) => duration(value)],
};
let chart = null;

function metricNames() {
  const names = new Set((content.runs ?? []).flatMap((run) => Object.keys(run.curves?.series ?? {})));
  return [...names].sort(NAMES.compare);
}

function renderCurves() {
  const names = metricNames();
  byId("curves-controls").hidden = !names.length;
  if (!names.length) return clearChart(content.runs?.length ? "These runs have no curves." : "There are no runs yet.");
  const metric = [state.metric, content.metric, names[0]].find((name) => names.includes(name));
  options("metric", names.map((name) => [name, name]), metric);
  const x = Object.hasOwn(ACROSS, state.x) ? state.x : "tokens";
  const lines = curvesOf(view.plotted.filter((run) => view.runs.includes(run)), metric, x);
  const groups = view.groups.filter((group) => lines.some((line) => line.group === group));
  byId("every").hidden = groups.length <= FIRST_CURVES;
  const shown = state.every ? groups : groups.slice(0, FIRST_CURVES);
  const drawn = lines.filter((line) => shown.includes(line.group));
  if (!drawn.length) return clearChart(`No run here has ${metric} by ${ACROSS[x][0]}.`);
  const grid = commonGrid(drawn);
  if (!grid.length) return clearChart("No point is above zero, so there is nothing to show on a log scale.");
  drawChart(grid, seriesOf(shown, drawn, grid), metric, x, groups.length - shown.length);
}

/** Return the points of every run that has the metric: {run, group, xs, ys} with x growing and no gaps. */
function curvesOf(runs, metric, x) {
  return runs.flatMap((run) => {
    const [across, values] = [entry(run.curves, x), entry(run.curves?.series, metric)];
    if (!across || !values) return [];
    const [xs, ys] = [[], []];
    for (let i = 0; i < across.length; i++) {
      const fits = fitsScale(across[i], state.logx) && fitsScale(values[i], state.logy);
      if (fits && !(across[i] <= xs.at(-1))) xs.push(across[i]), ys.push(values[i]);
    }
    return xs.length ? [{ run, group: view.groupOf(run), xs, ys }] : [];
  });
}

function fitsScale(value, log) {
  return isNumber(value) && (!log || value > 0);
}

function commonGrid(lines) {
  const all = Float64Array.from(lines.flatMap((line) => line.xs)).sort();
  const unique = all.filter((value, index) => index === 0 || value !== all[index - 1]);
  if (unique.length <= GRID) return [...unique];
  const at = (index) => unique[Math.round((index * (unique.length - 1)) / (GRID - 1))];
  return [...new Set(Array.from({ length: GRID }, (_, index) => at(index)))];
}

/** Return a line's values on the grid, null outside of its own first and last point. */
function onGrid({ xs, ys }, grid) {
  let i = 0;
  return grid.map((x) => {
    if (x < xs[0] || x > xs.at(-1)) return null;
    while (xs[i + 1] <= x) i++;
    if (xs[i] === x || i + 1 === xs.length) return ys[i];
    return ys[i] + ((ys[i + 1] - ys[i]) * (x - xs[i])) / (xs[i + 1] - xs[i]);
  });
}

function seriesOf(groups, lines, grid) {
  return groups.map((group) => {
    const own = lines.filter((line) => line.group === group);
    const finished = own.filter((line) => line.run.status === "done");
    const counts = finished.length ? finished : own;
    const counted = counts.map((line) => onGrid(line, grid));
    const across = (reduce) => grid.map((_, index) => {
      const values = counted.map((line) => line[index]);
      return values.includes(null) ? null : reduce(values);
    });
    const alone = own.filter((line) => state.single || group.outside || !counts.includes(line));
    return {
      group, seeds: counted.length,
      mean: group.outside ? null : across((values) => values.reduce((sum, value) => sum + value, 0) / values.length),
      low: counted.length > 1 && !group.outside ? across((values) => Math.min(...values)) : null,
      high: counted.length > 1 && !group.outside ? across((values) => Math.max(...values)) : null,
      singles: alone.map((line) => onGrid(line, grid)),
    };
  });
}

function clearChart(words) {
  chart?.destroy();
  chart = null;
  fill("plot", empty(words));
}

/** Return the colour that a CSS class or variable stands for in the current theme; a canvas cannot ask CSS itself. */
function colour(name, alpha = 1) {
  const probe = h("span", { class: "probe" });
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return alpha === 1 ? value : value.replace("rgb(", "rgba(").replace(")", `, ${alpha})`);
}

function lineStyle(group) {
  const index = group.outside ? 0 : view.place.get(group.id);
  const dash = group.outside ? [2, 3] : DASHES[(index + (index >> 3)) % DASHES.length];
  return { stroke: colour(markOf(group)), dash };
}

function drawChart(grid, series, metric, x, left) {
  const words = `${metric} over ${ACROSS[x][0]} for ${count(series.length, "group")}; the leaderboard has the numbers`;
  const host = h("div", { class: "canvas", role: "img", "aria-label": words });
  const legend = h("ul", { class: "legend", "aria-label": "Groups in this plot" });
  const readout = h("p", { class: "readout muted" });
  const [data, specs, bands] = [[grid], [{}], []];
  for (const one of series) addSeries(one, data, specs, bands);
  const values = series.map((one) => legendItem(one, legend));
  const width = Math.max(200, byId("plot").clientWidth);
  const key = [metric, x, state.logx, state.logy, state.late].join();
  const zoom = chart?.zoomed && chart.key === key ? chart.scales : null;
  chart?.destroy();
  fill("plot", host, readout, legend, h("figcaption", { class: "about" }, hintOf(series.length, left)));
  chart = new uPlot({
    width, height: width < 600 ? 280 : 400, series: specs, bands, legend: { show: false }, padding: [8, 26, 0, 0],
    scales: { x: { time: false, distr: state.logx ? 3 : 1 }, y: { distr: state.logy ? 3 : 1, ...rangeOf(data) } },
    cursor: { drag: { x: true, y: true, uni: 24 }, points: { show: false } },
    axes: [axis(ACROSS[x][0], ACROSS[x][1], width, true), axis(metric, short, width, false)],
    hooks: {
      draw: [(plot) => nameEnds(plot, series)],
      setCursor: [(plot) => readValues(plot, series, values, readout, x)],
      setSelect: [(plot) => { plot.zoomed = true; }],
    },
  }, data, host);
  chart.key = key;
  host.addEventListener("dblclick", () => { chart.zoomed = false; });
  if (zoom) for (const name of ["x", "y"]) chart.setScale(name, { min: zoom[name].min, max: zoom[name].max });
  if (zoom) chart.zoomed = true;
}

function hintOf(shown, left) {
  return "Line: mean over the seeds. Band: lowest to highest seed. Drag to zoom, double-click to see all."
    + (state.late ? " Fitted to the later part: the steep start may leave the plot." : "")
    + (left > 0 ? ` The first ${shown} groups of the leaderboard; ${left} more with “all groups”.` : "");
}

/** Return the y range that fits what comes after the first third, where differences are, or uPlot's own range. */
function rangeOf([grid, ...columns]) {
  if (!state.late) return {};
  const start = grid[0] + (grid.at(-1) - grid[0]) / 3;
  let [low, high] = [Infinity, -Infinity];
  for (const column of columns) {
    column.forEach((value, index) => {
      if (value !== null && grid[index] >= start) [low, high] = [Math.min(low, value), Math.max(high, value)];
    });
  }
  if (!(high > low)) return {};
  const margin = state.logy ? 0 : (high - low) * 0.06;
  return { range: (plot, min, max) => (plot.zoomed ? [min, max] : [low - margin, high + margin]) };
}

/** Add a group's lines to uPlot's columns; the mean comes last, so that it lies on top. */
function addSeries(one, data, specs, bands) {
  const { stroke, dash } = lineStyle(one.group);
  const quiet = { points: { show: false }, spanGaps: true };
  if (one.low) {
    data.push(one.high, one.low);
    specs.push({ ...quiet, width: 0 }, { ...quiet, width: 0 });
    bands.push({ series: [specs.length - 2, specs.length - 1], fill: colour(markOf(one.group), 0.14) });
  }
  for (const values of one.singles) {
    data.push(values);
    specs.push({ ...quiet, stroke: colour(markOf(one.group), 0.5), width: 1, dash: one.group.outside ? dash : [] });
  }
  if (!one.mean) return;
  data.push(one.mean);
  specs.push({ ...quiet, stroke, dash, width: 2, points: { show: one.mean.filter(isNumber).length === 1 } });
  one.column = data.length - 1;
}

function axis(label, text, width, across) {
  const font = "12px system-ui, sans-serif";
  return {
    label, font, labelFont: font, labelSize: 18, labelGap: 0, size: across ? 30 : 58,
    space: across ? (width < 600 ? 70 : 90) : 36, stroke: colour("muted"),
    grid: { stroke: colour("line"), width: 1 }, ticks: { show: false },
    values: (_, splits) => splits.map((value) => (value === null ? "" : text(value))),
  };
}

/** Write each group's letter at the end of its line, so that no one has to match colours. */
function nameEnds(plot, series) {
  const { top, height } = plot.bbox;
  const ends = series.map((one) => endOf(plot, one)).filter((end) => end && end.y >= top && end.y <= top + height);
  if (ends.length > 24) return;
  const [context, ratio] = [plot.ctx, devicePixelRatio || 1];
  ends.sort((a, b) => a.y - b.y);
  for (let i = 1; i < ends.length; i++) ends[i].y = Math.max(ends[i].y, ends[i - 1].y + 13 * ratio);
  let limit = top + height;
  for (const end of ends.toReversed()) limit = (end.y = Math.min(end.y, limit)) - 13 * ratio;
  context.save();
  context.font = `600 ${12 * ratio}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  context.textAlign = "left";
  for (const { group, x, y } of ends) {
    context.fillStyle = colour(markOf(group));
    context.fillText(group.id, x + 5 * ratio, y);
  }
  context.restore();
}

/** Return where the visible part of a group's line ends on the canvas. */
function endOf(plot, { group, mean, column }) {
  if (!column) return null;
  const index = mean.findLastIndex((value, at) => value !== null && plot.data[0][at] <= plot.scales.x.max);
  if (index < 0) return null;
  return { group, x: plot.valToPos(plot.data[0][index], "x", true), y: plot.valToPos(mean[index], "y", true) };
}

/** Add a group's button to the legend and return the element that shows its value under the cursor. */
function legendItem(one, legend) {
  const value = h("span", { class: "at" });
  const { dash } = lineStyle(one.group);
  const sample = h("svg", { viewBox: "0 0 28 10", class: `sample-line ${markOf(one.group)}`, "aria-hidden": "true" },
    h("path", { d: "M0 5H28", "stroke-dasharray": dash.join(" ") || null }));
  const key = "g:" + one.group.id;
  legend.append(h("li", {}, h("button", { type: "button", "aria-pressed": "true", "data-focus": "legend " + key,
    title: "Hide this group", onclick: () => choose({ hide: toggled(state.hide, key) }) },
  sample, h("b", {}, one.group.id), h("span", {}, one.group.label || "all defaults"), value)));
  return value;
}

function readValues(plot, series, values, readout, x) {
  const index = plot.cursor.idx;
  const known = isNumber(index) && plot.cursor.left >= 0;
  const unit = x === "seconds" ? "" : ` ${ACROSS[x][0]}`;
  readout.textContent = known ? `at ${ACROSS[x][1](plot.data[0][index])}${unit}` : "";
  series.forEach((one, at) => {
    values[at].textContent = known && one.mean ? fixed(one.mean[index], Math.max(3, view.digits)) : "";
  });
}

addEventListener("resize", () => {
  const width = byId("plot").clientWidth;
  if (chart && width > 0 && width !== chart.width) chart.setSize({ width, height: chart.height });
});
