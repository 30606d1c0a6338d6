"use strict";
/* A network as a drawing: a row for each step from the inputs, coloured by its share of the multiply-adds; drag to move, wheel or +/- to zoom. */
function drawing(title, side) {
  const SVG = "http://www.w3.org/2000/svg";
  const [WIDTH, HEIGHT, GAP, STEP] = [150, 34, 18, 62];
  const make = (tag, attributes, parent) => {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    parent.append(element);
    return element;
  };
  const macs = new Map(side.layers.map((layer) => [layer.name, layer.macs ?? 0]));
  const most = Math.max(1, ...macs.values());
  const rows = [];
  const places = side.nodes.map((node, i) => {
    node.row = node.reads.reduce((row, read) => Math.max(row, side.nodes[read].row + 1), 0);
    (rows[node.row] ??= []).push(i);
    return { y: node.row * STEP };
  });
  for (const row of rows) {
    row.forEach((i, at) => (places[i].x = (at - (row.length - 1) / 2) * (WIDTH + GAP)));
  }
  const frame = document.createElement("div");
  frame.className = "graph";
  const heading = document.createElement("h3");
  heading.textContent = `${title}: ${side.nodes.length} nodes`;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("role", "img");
  svg.setAttribute("tabindex", "0");
  svg.setAttribute("aria-label", heading.textContent);
  frame.append(heading, svg);
  for (const [i, node] of side.nodes.entries()) {
    for (const read of node.reads) {
      const [a, b] = [places[read], places[i]];
      const [from, to] = [a.y + HEIGHT, b.y];
      make("path", { d: `M${a.x} ${from}C${a.x} ${from + 20} ${b.x} ${to - 20} ${b.x} ${to}` }, svg);
    }
  }
  for (const [i, node] of side.nodes.entries()) {
    const { x, y } = places[i];
    const share = Math.sqrt((macs.get(node.name) ?? 0) / most);
    const box = make("g", {}, svg);
    make("title", {}, box).textContent = `${node.name}\n${node.operator}\n${(macs.get(node.name) ?? 0).toLocaleString("en").replaceAll(",", " ")} multiply-adds`;
    make("rect", { x: x - WIDTH / 2, y, width: WIDTH, height: HEIGHT, rx: 5, fill: `color-mix(in oklab, #e8743b ${Math.round(80 * share)}%, var(--paper))` }, box);
    const short = (text) => (text.length > 22 ? "…" + text.slice(-21) : text);
    make("text", { x: x - WIDTH / 2 + 6, y: y + 14 }, box).textContent = node.operator;
    make("text", { x: x - WIDTH / 2 + 6, y: y + 27, opacity: 0.65 }, box).textContent = short(node.name);
  }
  movable(svg, Math.max(1, ...rows.map((row) => row.length)) * (WIDTH + GAP), rows.length * STEP);
  return frame;
}

/* Lets a drawing of this size be moved and zoomed; it begins at its top, at a size that can be read. */
function movable(svg, width, height) {
  const view = { x: -Math.min(width, 700) / 2, y: -10, w: Math.min(width, 700), h: Math.min(height, 620) };
  const show = () => svg.setAttribute("viewBox", `${view.x} ${view.y} ${view.w} ${view.h}`);
  const zoom = (factor, x = 0.5, y = 0.5) => {
    view.x += view.w * (1 - factor) * x;
    view.y += view.h * (1 - factor) * y;
    view.w *= factor;
    view.h *= factor;
    show();
  };
  const move = (x, y) => {
    view.x += x;
    view.y += y;
    show();
  };
  svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = svg.getBoundingClientRect();
    zoom(event.deltaY > 0 ? 1.15 : 1 / 1.15, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  }, { passive: false });
  svg.addEventListener("pointermove", (event) => {
    if (event.buttons !== 1) return;
    const scale = Math.max(view.w / svg.clientWidth, view.h / svg.clientHeight);
    move(-event.movementX * scale, -event.movementY * scale);
  });
  svg.addEventListener("keydown", (event) => {
    const keys = { "+": () => zoom(1 / 1.2), "-": () => zoom(1.2), ArrowUp: () => move(0, -60), ArrowDown: () => move(0, 60), ArrowLeft: () => move(-60, 0), ArrowRight: () => move(60, 0) };
    if (keys[event.key]) {
      event.preventDefault();
      keys[event.key]();
    }
  });
  show();
}
