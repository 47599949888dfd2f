"use strict";
/* The report page: what was measured (content) and what the reader chose (state) become sections.

   - content: the JSON inside the page, or the newest one from the server when the page is live. Never changed here.
   - state: every choice of the reader. It lives in the address after #, so a view can be linked and back works.
   - render() draws all sections from these two; the heavy ones after the first paint, folded ones when they are opened.
   Text from runs reaches the page through text nodes and attribute values only. board.js, sweep.js, curves.js
   and parallel.js draw the big sections. */

const DEFAULTS = {
  q: "", sort: "mean", down: "", hide: [], open: [], rows: false, metric: "", x: "tokens", logx: false, logy: false,
  late: true,
  single: false, every: false, brush: [], prompt: "", step: "", first: "", second: "", third: "", theme: "", fold: [],
};
const LIVE = document.documentElement.dataset.live === "true";
const POLL_MILLISECONDS = 3000;
const BAD = ["failed", "cut off"];
const OUTSIDE = { id: "", label: "not in a group", values: {}, outside: true };
const NAMES = new Intl.Collator(undefined, { numeric: true });

let content = null;
let state = null;
let view = null;
let drawing = 0;
let dragging = false;

/* ---- state and address ---- */

function readState(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const result = {};
  for (const [key, usual] of Object.entries(DEFAULTS)) {
    if (Array.isArray(usual)) result[key] = given.getAll(key);
    else if (typeof usual === "boolean") result[key] = given.has(key) ? given.get(key) === "1" : usual;
    else result[key] = given.get(key) ?? usual;
  }
  return result;
}

function stateAsHash() {
  const given = new URLSearchParams();
  for (const [key, usual] of Object.entries(DEFAULTS)) {
    if (Array.isArray(usual)) state[key].forEach((item) => given.append(key, item));
    else if (state[key] !== usual) given.set(key, state[key] === true ? "1" : state[key] === false ? "0" : state[key]);
  }
  return "#" + given.toString();
}

/** Change some of the state and draw again; `quiet` changes (typing, dragging) leave no step for the back button. */
function choose(changes, quiet = false) {
  Object.assign(state, changes);
  const hash = stateAsHash();
  if (hash !== location.hash) history[quiet ? "replaceState" : "pushState"](null, "", hash);
  render();
}

function toggled(list, item) {
  return list.includes(item) ? list.filter((other) => other !== item) : [...list, item];
}

/* ---- small helpers ---- */

/** Return an element; `attributes` named on... are listeners, children that are no nodes become text. */
function h(tag, attributes = {}, ...children) {
  const vector = ["svg", "g", "path", "line", "circle", "rect", "text", "title"].includes(tag);
  const element = vector ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function byId(id) {
  return document.getElementById(id);
}

function fill(id, ...children) {
  byId(id).replaceChildren(...children.flat().filter(Boolean));
}

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/** Return the entry of a plain object, and undefined for names that only its prototype has. */
function entry(object, key) {
  return object && Object.hasOwn(object, key) ? object[key] : undefined;
}

function fixed(value, digits = view.digits) {
  return isNumber(value) ? value.toFixed(digits).replace("-", "−") : "–";
}

function short(value) {
  if (!isNumber(value)) return value === null || value === undefined ? "–" : asText(value);
  const size = Math.abs(value);
  const power = size !== 0 && (size >= 1e6 || size < 1e-3);
  if (power) return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
  return value.toLocaleString("en", { maximumSignificantDigits: Math.max(4, String(Math.trunc(size)).length) });
}

function count(value, noun) {
  return `${value.toLocaleString("en")} ${noun}${value === 1 ? "" : "s"}`;
}

/** Return a large number with the letter of its power of 1000. */
function compact(value) {
  if (!isNumber(value)) return "–";
  const power = Math.min(6, Math.floor(Math.log10(Math.max(1, Math.abs(value))) / 3));
  return `${Number((value / 1000 ** power).toPrecision(4))}${["", " k", " M", " G", " T", " P", " E"][power]}`;
}

function duration(seconds) {
  if (!isNumber(seconds)) return "–";
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function asText(value) {
  if (value === undefined) return "–";
  return typeof value === "string" ? value : JSON.stringify(value);
}

function day(time) {
  return typeof time === "string" ? time.slice(0, 16).replace("T", " ") : "–";
}

/** Put `items` into order: smaller first, those without a value last whatever the direction. */
function sorted(items, key, down) {
  const keyed = items.map((item) => [key(item), item]);
  const order = (a, b) => (isNumber(a) && isNumber(b) ? a - b : NAMES.compare(String(a), String(b)));
  keyed.sort(([a], [b]) => (a ?? null) === null ? ((b ?? null) === null ? 0 : 1)
    : (b ?? null) === null ? -1 : down ? order(b, a) : order(a, b));
  return keyed.map(([, item]) => item);
}

function empty(words) {
  return h("p", { class: "empty" }, words);
}

/** Return a table that may scroll sideways: caption, header cells, rows of cells. */
function table(caption, head, rows, kind = "") {
  const body = h("tbody", {}, rows);
  const top = h("thead", {}, h("tr", {}, head));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    h("table", { class: kind }, h("caption", {}, caption), top, body));
}

function column(text, kind = "") {
  return h("th", { scope: "col", class: kind }, text);
}

function swatch(group) {
  return h("span", { class: `swatch ${markOf(group)}`, "aria-hidden": "true" }, group.id);
}

function markOf(group) {
  return group.outside ? "c-none" : `c${view.place.get(group.id) % 8}`;
}

/* ---- which runs are seen ---- */

function wordsOf(run, group) {
  const pairs = (values) => Object.entries(values ?? {}).map(([key, value]) => `${key}=${asText(value)}`);
  return [run.id, run.name, run.project, ...(run.tags ?? []), run.status, group.label, ...pairs(run.config),
    ...pairs(group.values), `seed=${run.seed}`].join("\n").toLowerCase();
}

/** Return what the sections draw from: groups and runs with the filter, the brushes and the toggles applied. */
function look() {
  const groups = content.groups ?? [];
  const place = new Map(groups.map((group, index) => [group.id, index]));
  const groupOf = (run) => groups[place.get(run.group)] ?? OUTSIDE;
  const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
  const found = (content.runs ?? []).filter((run) => {
    const text = words.length ? wordsOf(run, groupOf(run)) : "";
    return words.every((word) => text.includes(word));
  });
  const axes = parallelAxes(content, groupOf);
  const kept = found.filter((run) => insideBrushes(run, axes, readBrushes(state.brush)));
  const hidden = new Set(state.hide);
  const unhidden = (run) => !hidden.has("g:" + groupOf(run).id) && !hidden.has("r:" + run.id);
  const members = new Map();
  for (const run of kept) members.set(groupOf(run), [...(members.get(groupOf(run)) ?? []), run]);
  return {
    place, groupOf, found, axes, hidden, members, digits: digitsFor(groups),
    groups: sortedGroups([...members.keys()]), runs: kept.filter(unhidden), plotted: found.filter(unhidden),
  };
}

/** Return how many decimals show two figures of the typical spread. */
function digitsFor(groups) {
  const spreads = groups.map((group) => group.sd).filter((sd) => isNumber(sd) && sd > 0).sort((a, b) => a - b);
  const typical = spreads.length ? spreads[spreads.length >> 1] : 0.001;
  return Math.min(6, Math.max(0, 1 - Math.floor(Math.log10(typical))));
}

/* ---- header ---- */

function renderHeader() {
  const { groups = [], runs = [], notes = [] } = content;
  document.title = content.title ?? "lmexp report";
  fill("title", document.title);
  fill("summary", summaryOf(groups, runs));
  fill("counts", [count(groups.length, "group"), count(runs.length, "run"),
    content.metric && `${content.metric}, ${content.better} is better`, content.at && `measured at ${content.at}`]
    .filter(Boolean).join(" · "));
  const list = h("ul", {}, notes.map((note) => h("li", {}, note)));
  fill("notes", notes.length ? [h("h2", {}, "Left out"), list] : []);
  const made = content.created ? `Made ${day(content.created)} by ` : "Made by ";
  fill("made", h("span", {}, made), h("code", {}, content.command || "lmexp report"));
}

function summaryOf(groups, runs) {
  if (!runs.length) return "There are no runs here yet.";
  if (runs.length === 1) return "One run: nothing to compare it with, so no statement about better or worse.";
  const judged = groups.filter((group) => group.difference);
  const of = (verdict) => judged.filter((group) => group.difference.verdict === verdict);
  const texts = sorted(of("better"), (group) => Math.abs(group.difference.value), true).map((g) => g.difference.text);
  if (texts.length) return texts.slice(0, 2).join("; ") + ".";
  if (of("cannot tell").length) return of("cannot tell")[0].difference.text + ".";
  if (of("worse").length) return `No group is better than ${content.baseline}; ${of("worse").length} worse.`;
  const best = sortedGroups(groups.filter((group) => isNumber(group.mean)), "mean", "")[0];
  if (!best) return "No run has this metric yet.";
  const unit = content.unit ? ` ${content.unit}` : "";
  const name = `${best.id} (${best.label || "all defaults"})`;
  return `${name} has the best mean so far, ${fixed(best.mean)}${unit}; that alone is no verdict.`;
}

/* ---- what differs, importance, samples, failures, environment ---- */

function renderDifferences() {
  const groups = view.groups.filter((group) => !group.outside && !view.hidden.has("g:" + group.id));
  const shown = groups.slice(0, 12);
  const keys = [...new Set(groups.flatMap((group) => Object.keys(group.values ?? {})))].sort(NAMES.compare);
  if (!keys.length) {
    const words = groups.length ? "These groups do not differ in any key." : "There are no groups to tell apart.";
    return fill("differences-table", empty(words));
  }
  const base = content.groups.find((group) => group.id === content.baseline) ?? shown[0];
  const rows = keys.map((key) => h("tr", {},
    h("th", { scope: "row" }, h("code", {}, key), entry(content.keys, key) && h("small", {}, content.keys[key])),
    shown.map((group) => {
      const value = asText(entry(group.values, key));
      const other = group !== base && value !== asText(entry(base.values, key));
      return h("td", { class: other ? "value other" : "value" }, value);
    })));
  const heads = shown.map((group) => h("th", { scope: "col" }, swatch(group), h("span", { class: "sr" }, group.label)));
  const more = `The first ${shown.length} of ${groups.length} groups, in the order of the leaderboard.`;
  fill("differences-table",
    table(`Keys that differ; bold where a group differs from ${base.id}`, [column("Key"), ...heads], rows, "matrix"),
    groups.length > shown.length && h("p", { class: "about" }, more));
}

function renderImportance() {
  const items = (content.importance ?? []).filter((item) => isNumber(item.share));
  if (!items.length) {
    return fill("importance-table", empty("Too few runs with different choices to say which choice matters."));
  }
  const bars = sorted(items, (item) => item.share, true).map((item) => {
    const bar = h("span", { class: "share" });
    bar.style.width = `${Math.max(0, Math.min(1, item.share)) * 100}%`;
    return h("tr", {}, h("th", { scope: "row" }, h("code", {}, item.key)), h("td", { class: "share" }, bar),
      h("td", { class: "number" }, String(Math.round(item.share * 100))), h("td", {}, item.text ?? "–"));
  });
  fill("importance-table", table(`Share of the variation of ${content.metric} that goes with a key`,
    [column("Key"), column("Share"), column("Per cent", "number"), column("In words")], bars, "shares"));
}

function renderSamples() {
  const runs = view.runs.filter((run) => run.samples?.length);
  byId("samples-controls").hidden = !runs.length;
  if (!runs.length) return fill("samples-texts", empty("No run here kept samples."));
  const prompts = [...new Set(runs.flatMap((run) => run.samples.map((sample) => sample.prompt)))];
  const prompt = prompts.includes(state.prompt) ? state.prompt : prompts[0];
  const steps = [...new Set(runs.flatMap((run) => run.samples.map((sample) => sample.step)))].sort((a, b) => a - b);
  options("prompt", prompts.map((text) => [text, text.trim() || "(no prompt)"]), prompt);
  options("step", [["", "the last"], ...steps.map((step) => [String(step), short(step)])], state.step);
  const usual = usualSamples(runs);
  const chosen = ["first", "second", "third"].map((name, index) => {
    const id = state[name] || usual[index] || "none";
    options(name, [["none", "none"], ...runs.map((run) => [run.id, labelOf(run)])], id);
    return runs.find((run) => run.id === id);
  });
  fill("samples-texts", h("div", { class: "panes" }, chosen.filter(Boolean).map((run) => samplePane(run, prompt))));
}

/** Return the ids of the best run of each of the first three groups. */
function usualSamples(runs) {
  const best = sorted(runs, (run) => run.value, content.better === "higher");
  return view.groups.map((group) => best.find((run) => view.groupOf(run) === group)?.id).filter(Boolean).slice(0, 3);
}

function samplePane(run, prompt) {
  const of = run.samples.filter((sample) => sample.prompt === prompt);
  const sample = state.step ? of.find((one) => String(one.step) === state.step) : of.at(-1);
  return h("article", {}, h("h3", {}, swatch(view.groupOf(run)), h("span", {}, labelOf(run))),
    h("p", { class: "muted" }, sample ? `step ${short(sample.step)} · ${fixed(run.value)}`
      : "no sample of this prompt at this step"),
    sample && h("p", { class: "sample" }, h("b", {}, sample.prompt), sample.text));
}

function labelOf(run) {
  return `${run.name ?? run.id} · seed ${run.seed ?? "–"}`;
}

function renderFailures() {
  const failed = view.runs.filter((run) => run.error || BAD.includes(run.status));
  fill("failures-list", failed.length ? failed.map(failure) : empty("No run failed."));
}

function failure(run) {
  return h("article", { class: "failure" },
    h("h3", {}, statusOf(run), h("span", {}, labelOf(run))),
    h("p", { class: "muted" }, run.id, run.tokens ? ` · after ${compact(run.tokens)} tokens` : ""),
    h("pre", { tabindex: 0 }, run.error || "It left no message."));
}

function renderEnvironment() {
  const { common = {}, differing = [] } = content.environment ?? {};
  const rows = Object.entries(common).map(([key, value]) =>
    h("tr", {}, h("th", { scope: "row" }, key), h("td", { class: "value" }, asText(value))));
  const shared = rows.length ? table("The same for all runs", [column("What"), column("Value")], rows)
    : empty("Nothing is recorded that all runs share.");
  const lines = differing.length ? environments(differing) : [];
  const heads = [column("Runs"), ...differing.map((key) => column(key))];
  fill("environment-tables", shared, lines.length > 0 && table("Not the same for all runs", heads, lines));
}

/** Return one row for each different environment, with the runs that had it. */
function environments(keys) {
  const kinds = new Map();
  for (const run of view.runs) {
    const values = keys.map((key) => asText(entry(run.environment, key)));
    const name = values.join("\n");
    if (!kinds.has(name)) kinds.set(name, { values, runs: [] });
    kinds.get(name).runs.push(run);
  }
  return [...kinds.values()].map(({ values, runs }) => h("tr", {},
    h("th", { scope: "row" }, count(runs.length, "run"),
      h("small", {}, runs.slice(0, 3).map(labelOf).join(", ") + (runs.length > 3 ? ", …" : ""))),
    values.map((value) => h("td", { class: "value" }, value))));
}

/* ---- drawing ---- */

const SECTIONS = [
  ["sweep", () => renderSweep()], ["curves", () => renderCurves()], ["differences", renderDifferences], ["parallel", () => renderParallel()],
  ["importance", renderImportance], ["samples", renderSamples], ["failures", renderFailures],
  ["environment", renderEnvironment],
];

function isOpen(id) {
  return (id !== "environment") !== state.fold.includes(id);
}

function render() {
  const mine = ++drawing;
  view = look();
  document.documentElement.dataset.theme = state.theme;
  fillControls();
  keepingFocus(() => {
    renderHeader();
    if (isOpen("board")) renderBoard();
  });
  requestAnimationFrame(() => setTimeout(() => drawRest(SECTIONS.filter(([id]) => isOpen(id)), mine)));
}

/** Draw the sections one task each, so that the page answers in between; a newer drawing ends this one. */
function drawRest(sections, mine) {
  if (mine !== drawing) return;
  if (!sections.length) {
    document.documentElement.dataset.drawn = String(mine);
    return;
  }
  keepingFocus(sections[0][1]);
  setTimeout(() => drawRest(sections.slice(1), mine));
}

/** Call `draw` and put the focus back on the control that it drew anew. */
function keepingFocus(draw) {
  const name = document.activeElement?.dataset?.focus;
  draw();
  if (name === undefined || document.activeElement?.dataset?.focus === name) return;
  const again = [...document.querySelectorAll("[data-focus]")].find((element) => element.dataset.focus === name);
  again?.focus({ preventScroll: true });
}

/** Give a select its options, [value, text] each, and touch nothing when they are the same: it may be open. */
function options(id, items, value) {
  const select = byId(id);
  const key = JSON.stringify(items);
  if (select.dataset.items !== key) {
    select.replaceChildren(...items.map(([name, text]) => h("option", { value: name }, text)));
    select.dataset.items = key;
  }
  select.value = value;
}

function fillControls() {
  for (const control of document.querySelectorAll("[data-state]")) {
    const value = state[control.dataset.state];
    if (control.type === "checkbox") control.checked = value;
    else if (control.value !== value) control.value = value;
  }
  for (const section of document.querySelectorAll("details.section")) section.open = isOpen(section.id);
  const all = content.runs?.length ?? 0;
  const some = view.runs.length.toLocaleString("en");
  fill("found", view.runs.length === all ? count(all, "run") : `${some} of ${count(all, "run")}`);
  byId("reset").hidden = !(state.q || state.hide.length || state.brush.length);
}

function bindControls() {
  for (const control of document.querySelectorAll("[data-state]")) {
    const typing = control.type === "search";
    control.addEventListener(typing ? "input" : "change", () =>
      choose({ [control.dataset.state]: control.type === "checkbox" ? control.checked : control.value }, typing));
  }
  for (const section of document.querySelectorAll("details.section")) {
    section.addEventListener("toggle", () => {
      if (section.open !== isOpen(section.id)) choose({ fold: toggled(state.fold, section.id) });
    });
  }
  byId("reset").addEventListener("click", () => choose({ q: "", hide: [], brush: [] }));
  addEventListener("hashchange", () => {
    state = readState(location.hash);
    render();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", render);
  addEventListener("beforeprint", () => printing("light"));
  addEventListener("afterprint", () => printing(state.theme));
}

/** Paper is white: the canvas is drawn again in the light colours, at once. */
function printing(theme) {
  document.documentElement.dataset.theme = theme;
  if (isOpen("curves")) renderCurves();
}

/* ---- live ---- */

async function poll(tag = "") {
  if (dragging) return void setTimeout(() => poll(tag), POLL_MILLISECONDS);
  try {
    const answer = await fetch("content.json", { cache: "no-store", headers: tag ? { "If-None-Match": tag } : {} });
    if (answer.status === 200) {
      content = await answer.json();
      tag = answer.headers.get("ETag") ?? "";
      render();
    } else if (answer.status !== 304) throw new Error(await answer.text());
    fill("live", `live · ${new Date().toLocaleTimeString()}`);
  } catch (error) {
    const lost = error instanceof TypeError;
    fill("live", lost ? "live no longer: the server does not answer" : `not up to date: ${error.message}`);
  }
  setTimeout(() => poll(tag), POLL_MILLISECONDS);
}

function start() {
  content = JSON.parse(byId("content").textContent);
  state = readState(location.hash);
  bindControls();
  render();
  if (LIVE) poll();
}

start();
