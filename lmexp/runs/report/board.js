"use strict";
/* The leaderboard: a row for each group with its mean, interval and verdict; opened, a table of its runs.

   Every column sorts. The whiskers share one scale that far outliers do not stretch. A verdict is a mark and a word,
   never colour alone. The checkboxes hide a group or a run on the whole page. */

const FIRST_ROWS = 30;
const MARKS = { "better": "▲", "worse": "▼", "cannot tell": "≈", "no statement": "–", "baseline": "◆" };
const VERDICTS = ["baseline", "better", "cannot tell", "worse", "no statement"];
const COLUMNS = [
  ["label", "Group", (group) => group.label, "group"],
  ["n", "n", (group) => group.n, "number wide"],
  ["mean", "Mean", (group) => group.mean, "number"],
  ["sd", "Spread", (group) => group.sd, "number wide"],
  ["low", "95 % interval", (group) => group.low, "whisker"],
  ["difference", "Difference", (group) => group.difference?.value, "number wide"],
  ["p", "p", (group) => group.difference?.p, "number wide"],
  ["verdict", "Verdict", (group) => VERDICTS.indexOf(verdictOf(group)), "judged"],
];

function verdictOf(group) {
  return group.id === content.baseline ? "baseline" : group.difference?.verdict ?? "no statement";
}

function sortedGroups(groups, by = state.sort, down = state.down) {
  const [name, , key] = COLUMNS.find(([other]) => other === by) ?? COLUMNS[2];
  const natural = content.better === "higher" && ["mean", "low"].includes(name);
  return sorted(groups, (group) => (group.outside ? null : key(group)), down === "" ? natural : down === "1");
}

function renderBoard() {
  if (!view.groups.length) {
    fill("board-about");
    const words = content.runs?.length ? "No run matches the filter." : "No runs yet. Train one: lmexp train";
    return fill("board-table", empty(words));
  }
  fill("board-about", (content.metric ?? "The metric") + (content.unit ? ` in ${content.unit}` : "")
    + ": the mean over seeds with its 95 % interval"
    + (content.baseline ? `, and the difference from the baseline ${content.baseline}.` : "."));
  const shown = state.rows ? view.groups : view.groups.slice(0, FIRST_ROWS);
  const scale = whiskerScale(view.groups);
  const rows = shown.flatMap((group) => boardRows(group, scale));
  const head = [h("th", { scope: "col", class: "check" }, h("span", { class: "sr" }, "Shown")),
    ...COLUMNS.map((one) => boardHead(one, scale))];
  const more = h("button", { type: "button", "data-focus": "rows", onclick: () => choose({ rows: true }) },
    `Show all ${view.groups.length} groups`);
  fill("board-table", table("One row a group; open a row for its runs", head, rows, "board"),
    shown.length < view.groups.length && more);
}

function boardHead([name, title, , kind], scale) {
  const natural = content.better === "higher" && ["mean", "low"].includes(name) ? "1" : "0";
  const current = state.sort === name;
  const down = (state.down || natural) === "1";
  const onclick = () => choose({ sort: name, down: current ? (down ? "0" : "1") : "" });
  return h("th", { scope: "col", class: kind, "aria-sort": current ? (down ? "descending" : "ascending") : null },
    h("button", { type: "button", class: "sort", "data-focus": "sort " + name, onclick }, title,
      h("span", { "aria-hidden": "true", class: "arrow" }, current ? (down ? "↓" : "↑") : "")),
    kind === "whisker" && h("small", { "aria-hidden": "true" }, scale.map((end) => h("span", {}, fixed(end)))));
}

/** Return the row of a group and, when it is opened, the row with its runs. */
function boardRows(group, scale) {
  const key = "g:" + group.id;
  const { low, high, value, p } = group.difference ?? {};
  const row = h("tr", { class: view.hidden.has(key) ? "off" : null },
    h("td", { class: "check" }, toggle(key, `Show group ${group.id} ${group.label}`)),
    h("th", { scope: "row", class: "group" }, expander(group)),
    h("td", { class: "number wide" }, sizeOf(group)),
    h("td", { class: "number" }, fixed(group.mean)),
    h("td", { class: "number wide" }, fixed(group.sd)),
    h("td", { class: "whisker" }, whisker(group, scale)),
    h("td", { class: "number wide" }, isNumber(value) ? `${signed(value)} [${signed(low)}, ${signed(high)}]` : "–"),
    h("td", { class: "number wide" }, isNumber(p) ? probability(p) : "–"),
    h("td", { class: "judged" }, group.outside ? "–" : verdictMark(verdictOf(group))));
  if (!state.open.includes(group.id)) return [row];
  return [row, h("tr", { class: "inside" }, h("td", { colspan: COLUMNS.length + 1 }, groupInside(group)))];
}

function expander(group) {
  const open = state.open.includes(group.id);
  return h("button", {
    type: "button", class: "expand", "aria-expanded": String(open), "data-focus": "open " + group.id,
    onclick: () => choose({ open: toggled(state.open, group.id) }),
  }, h("span", { class: "chevron", "aria-hidden": "true" }, open ? "▾" : "▸"), swatch(group),
  h("span", {}, group.label || "all defaults"));
}

function sizeOf(group) {
  const seen = view.members.get(group).length;
  if (group.outside) return String(seen);
  return seen < group.n ? `${group.n} (${seen} shown)` : short(group.n);
}

function verdictMark(verdict) {
  return h("span", { class: "verdict v-" + verdict.replace(" ", "-") },
    h("span", { "aria-hidden": "true" }, MARKS[verdict] ?? "–"), " ", verdict);
}

function signed(value) {
  return isNumber(value) ? (value > 0 ? "+" : "") + fixed(value) : "–";
}

function probability(p) {
  return p < 0.001 ? "< 0.001" : p.toFixed(3);
}

function toggle(key, label) {
  return h("input", { type: "checkbox", "aria-label": label, "data-focus": key, checked: !view.hidden.has(key),
    onchange: () => choose({ hide: toggled(state.hide, key) }) });
}

function groupInside(group) {
  const words = [
    group.difference?.text,
    isNumber(group.low) && `mean ${fixed(group.mean)}, 95 % interval ${fixed(group.low)} to ${fixed(group.high)}`,
    isNumber(group.sd) && `spread over seeds ${fixed(group.sd)}`,
  ].filter(Boolean);
  const head = [h("th", { scope: "col", class: "check" }, h("span", { class: "sr" }, "Shown")),
    column("Run"), column("Status"),
    ...["Seed", "Value", "Tokens", "Time", "FLOPs", "Parameters"].map((text) => column(text, "number")),
    column("Tags"), column("Started")];
  const rows = sorted(view.members.get(group), (run) => run.value, content.better === "higher").map(runRow);
  return [words.length > 0 && h("p", {}, words.join(" · ")),
    table(`Runs of ${group.id || "no group"}`, head, rows, "runs")];
}

function runRow(run) {
  const number = (text) => h("td", { class: "number" }, text);
  return h("tr", { class: view.hidden.has("r:" + run.id) ? "off" : null },
    h("td", { class: "check" }, toggle("r:" + run.id, `Show run ${run.id}`)),
    h("th", { scope: "row" }, run.name ?? "–", h("small", {}, run.id)), h("td", {}, statusOf(run)),
    number(short(run.seed)), number(fixed(run.value)), number(compact(run.tokens)), number(duration(run.seconds)),
    number(compact(run.flops)), number(compact(run.parameters)),
    h("td", {}, (run.tags ?? []).map((tag) => h("span", { class: "tag" }, tag))),
    h("td", { class: "time" }, day(run.created)));
}

function statusOf(run) {
  const mark = BAD.includes(run.status) ? "✕ " : run.status === "running" ? "● " : "";
  return h("span", { class: BAD.includes(run.status) ? "bad" : null }, mark + (run.status ?? "unknown"));
}

/** Return the ends of the scale that all whiskers share; far outliers do not stretch it. */
function whiskerScale(groups) {
  const ends = groups.flatMap((group) => [group.low, group.mean, group.high]).filter(isNumber).sort((a, b) => a - b);
  if (!ends.length) return [0, 1];
  const [first, third] = [ends[ends.length >> 2], ends[Math.min(ends.length - 1, (3 * ends.length) >> 2)]];
  const reach = 3 * (third - first);
  const [low, high] = [Math.max(ends[0], first - reach), Math.min(ends.at(-1), third + reach)];
  const margin = (high - low) * 0.04 || Math.abs(high) * 0.01 || 1;
  return [low - margin, high + margin];
}

/** Return a dot at the mean and a bar over the interval; a square dot at the edge lies beyond the scale. */
function whisker(group, [from, to]) {
  if (!isNumber(group.mean)) return "–";
  const at = (value) => Math.min(218, Math.max(2, (220 * (value - from)) / (to - from)));
  const base = content.groups.find((other) => other.id === content.baseline)?.mean;
  const [low, mean, high] = [group.low, group.mean, group.high].map(at);
  const known = isNumber(group.low) && isNumber(group.high);
  const words = known ? `${fixed(group.low)} to ${fixed(group.high)}` : "no interval from a single run";
  const beyond = group.mean < from || group.mean > to;
  return h("svg", { viewBox: "0 0 220 20", class: "whisker " + markOf(group), role: "img", "aria-label": words },
    h("title", {}, words),
    isNumber(base) && h("line", { class: "base", x1: at(base), x2: at(base), y1: 0, y2: 20 }),
    known && h("path", { class: "bar", d: `M${low} 10H${high}M${low} 5V15M${high} 5V15` }),
    beyond ? h("rect", { class: "dot", x: mean - 2, y: 4, width: 4, height: 12 })
      : h("circle", { class: "dot", cx: mean, cy: 10, r: 4.5 }));
}
