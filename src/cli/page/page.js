"use strict";
/* The page: what was done to a network, or can be, from the JSON in it. Names come from a model, and are only ever text. */
const data = JSON.parse(document.getElementById("data").textContent);
const page = document.getElementById("page");

function add(parent, tag, text = "", attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  parent.append(element);
  return element;
}
const grouped = (n) => (n == null ? "?" : n.toLocaleString("en").replaceAll(",", " "));
const percent = (x) => (100 * x).toFixed(1) + " %";

/* A table of rows of cells; a cell is a text, a number, or an element. */
function table(parent, header, rows, left = new Set([0])) {
  const wide = add(parent, "div", "", { class: "wide" });
  const found = add(wide, "table");
  const head = add(add(found, "thead"), "tr");
  header.forEach((title, i) => add(head, "th", title, { scope: "col", class: left.has(i) ? "text" : "" }));
  const body = add(found, "tbody");
  for (const row of rows) {
    const line = add(body, "tr");
    row.forEach((cell, i) => {
      const place = add(line, "td", "", { class: left.has(i) ? "text" : "" });
      if (cell instanceof Node) place.append(cell);
      else place.textContent = cell ?? "";
    });
  }
  return { table: found, body };
}

function header() {
  document.title = `optc: ${data.model}`;
  add(page, "h1", data.model);
  const { report, curve } = data;
  const what = report ? `${report.pipeline || "no passes"} · by ${report.cost} · seed ${report.seed}` : `explored · by ${curve.cost}`;
  add(page, "p", `optc ${data.optc} · ${what}`, { class: "about" });
}

function tile(parent, what, before, after, unit = grouped) {
  const box = add(parent, "div", "", { class: "tile" });
  add(box, "div", what, { class: "what" });
  const share = before > 0 && after != null ? after / before : null;
  const tone = share == null || share === 1 ? "" : share < 1 ? "good" : "bad";
  add(box, "div", share == null ? "?" : `${share.toFixed(3)} times`, { class: `share ${tone}` });
  add(box, "div", `${unit(before)} → ${unit(after)}`, { class: "sizes" });
}

function glance(report) {
  const tiles = add(page, "div", "", { class: "tiles" });
  const { before, after } = report;
  for (const timing of report.time?.timings ?? []) {
    const [was, is] = timing.files;
    tile(tiles, `time, ${timing.threads} thread${timing.threads > 1 ? "s" : ""}, ${timing.by}`, was.seconds, is.seconds, (s) => `${(1e3 * s).toFixed(3)} ms`);
  }
  tile(tiles, "multiply-adds", before.macs, after.macs);
  tile(tiles, "parameters", before.params, after.params);
  tile(tiles, "bytes of weights", before.bytes, after.bytes);
  tile(tiles, "operators", before.nodes, after.nodes);
}

function answers(report) {
  add(page, "h2", "Answers");
  const rows = [];
  const judge = report.judge;
  if (judge?.outputs) {
    add(page, "p", `${judge.by} ran both files, on ${judge.on}${judge.held_out ? ", which nothing was fitted to" : ""}.`, { class: "about" });
    for (const out of judge.outputs) {
      rows.push([out.name, out.max_rel.toExponential(1), percent(out.change), out.cosine.toFixed(6), out.agreement == null ? "" : percent(out.agreement)]);
    }
  } else {
    add(page, "p", judge ? `No runtime compared the files: ${judge.not_judged}.` : "No runtime compared the files.", { class: "about" });
  }
  const own = report.verify;
  if (own?.max_rel != null) rows.push(["forecast of all outputs, by optc itself", own.max_rel.toExponential(1), percent(own.change), "", percent(own.argmax_agreement)]);
  if (rows.length) table(page, ["output", "largest difference", "change", "least cosine", "same largest class"], rows);
  const eval_ = report.eval;
  if (eval_) {
    const right = eval_.top1_before == null ? "" : `${percent(eval_.top1_before)} right before, ${percent(eval_.top1_after)} after; `;
    const same = eval_.agreement == null ? "" : `${percent(eval_.agreement)} of the answers are the same, `;
    add(page, "p", `${right}${same}cosine ${eval_.cosine.toFixed(6)}, on ${eval_.samples} samples of ${eval_.data}.`);
  }
  for (const { pass, why } of report.time?.taken_back ?? []) add(page, "p", `Taken back: ${pass}: ${why}.`, { class: "bad" });
  if (report.time?.not_measured) add(page, "p", `Time was not measured: ${report.time.not_measured}.`, { class: "about" });
}

/* What each point of the curve leaves, and, for the one that is selected, what each layer becomes. */
function explored(curve) {
  add(page, "h2", "What can be had");
  const place = add(page, "div", "", { id: "chart" });
  const share = (now, was) => (now == null || !was ? "?" : (now / was).toFixed(3));
  const rows = curve.points.map((point) => [
    String(point.at),
    point.time ? `${point.time.ratio.toFixed(2)} (${point.time.spread.map((x) => x.toFixed(2)).join(" to ")})` : "",
    share(point.stats.macs, curve.original.macs),
    share(point.stats.params, curve.original.params),
    share(point.stats.bytes, curve.original.bytes),
    point.agreement == null ? "" : point.agreement.toFixed(4),
    point.cosine == null ? "" : point.cosine.toFixed(4),
    percent(point.forecast),
  ]);
  const { body } = table(page, ["budget", "time", "multiply-adds", "parameters", "bytes", "agreement", "cosine", "change, by forecast"], rows);
  const details = add(page, "div", "", { id: "point" });
  const lines = [...body.rows];
  const select = (at) => {
    lines.forEach((line, i) => line.setAttribute("aria-selected", String(i === at)));
    details.replaceChildren();
    const point = curve.points[at];
    add(details, "h2", `At a budget of ${point.at}`);
    const became = point.layers.map((layer) => [layer.layer, layer.channels ? "its channels" : "its form", layer.method, layer.what]);
    table(details, ["layer", "what of it", "method", "became"], became, new Set([0, 1, 2, 3]));
  };
  lines.forEach((line, i) => {
    line.className = "point";
    line.tabIndex = 0;
    line.addEventListener("click", () => select(i));
    line.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        select(i);
      }
    });
  });
  if (curve.points.length) {
    chart(curve, place, select);
    select(0);
  } else {
    place.textContent = "Nothing that is offered saves anything.";
  }
  const { samples, held_out } = curve;
  const on = samples ? `Answers: on ${held_out || samples} samples${held_out ? " that were held out, and on some of those that are fitted to" : ""}.` : "No samples: what outputs change by is a forecast.";
  add(page, "p", curve.timing ? `${on} Time: ${curve.timing.by}, ${curve.timing.threads} thread, on ${curve.timing.on}.` : on, { class: "about" });
}

/* The layers before, each with what it became: layers after it whose name begins with its own. */
function pairs(before, after) {
  const found = new Map(before.map((layer) => [layer.name, []]));
  const added = [];
  for (const layer of after) {
    let name = layer.name;
    while (name && !found.has(name)) name = name.slice(0, Math.max(0, name.search(/[._/:][^._/:]*$/)));
    if (found.has(name)) found.get(name).push(layer);
    else added.push(layer);
  }
  return { found, added };
}

function layers(report) {
  add(page, "h2", "Layers");
  const filter = add(page, "input", "", { type: "search", placeholder: "name, operator or reason", "aria-label": "show layers with this text" });
  const { found, added } = pairs(data.before.layers, data.after.layers);
  const remarks = new Map();
  for (const pass of report.passes) {
    for (const remark of pass.remarks) {
      if (!remarks.has(remark.node)) remarks.set(remark.node, []);
      remarks.get(remark.node).push({ ...remark, pass: pass.name });
    }
  }
  const said = (name) => {
    const list = document.createElement("span");
    for (const { kind, pass, text } of remarks.get(name) ?? []) add(list, "span", `${pass}: ${text}`, { class: `remark ${kind}` });
    return list;
  };
  const sum = (all, what) => (all.some((layer) => layer[what] == null) ? null : all.reduce((total, layer) => total + layer[what], 0));
  const rows = data.before.layers.map((layer) => {
    const now = found.get(layer.name);
    return [layer.name, layer.operator, grouped(layer.macs), grouped(sum(now, "macs")), grouped(layer.params), grouped(sum(now, "params")), said(layer.name)];
  });
  for (const layer of added) rows.push([layer.name, layer.operator, "", grouped(layer.macs), "", grouped(layer.params), said(layer.name)]);
  const titles = ["layer", "operator", "multiply-adds", "after", "parameters", "after", "what was done, or not, and why"];
  const { body } = table(page, titles, rows, new Set([0, 1, 6]));
  filter.addEventListener("input", () => {
    const wanted = filter.value.toLowerCase();
    for (const line of body.rows) line.hidden = !line.textContent.toLowerCase().includes(wanted);
  });
  const general = remarks.get("") ?? [];
  if (general.length) add(page, "h2", "The whole network");
  for (const { pass, text, kind } of general) add(page, "p", `${pass}: ${text}`, { class: `remark ${kind}` });
}

function passes(report) {
  if (!report.passes.length) return;
  add(page, "h2", "Passes");
  const rows = report.passes.map((pass) => [pass.name, pass.seconds.toFixed(2), grouped(pass.params), grouped(pass.macs), grouped(pass.nodes), pass.stop_reason ?? (pass.changed ? "changed" : "no change")]);
  table(page, ["pass", "seconds", "parameters", "multiply-adds", "operators", "result"], rows);
}

function graphs() {
  add(page, "h2", "The network");
  add(page, "p", "Coloured by multiply-adds. Drag to move, wheel to zoom; with the keyboard arrows, + and -.", { class: "about" });
  const sides = add(page, "div", "", { class: "sides" });
  sides.append(drawing(data.after ? "before" : "as it is", data.before));
  if (data.after) sides.append(drawing("after", data.after));
}

header();
if (data.report) glance(data.report);
if (data.report) answers(data.report);
if (data.curve) explored(data.curve);
if (data.report) passes(data.report);
if (data.report) layers(data.report);
graphs();
