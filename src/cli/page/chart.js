"use strict";
/* The curve of what can be had: how many answers stay, over what is left of the time, or of the multiply-adds where none was measured. */
function chart(curve, place, select) {
  const timed = curve.points.some((point) => point.time);
  const left = (point) => (timed ? point.time.ratio : point.stats.macs / curve.original.macs);
  const kept = (point) => point.agreement ?? 1 - point.forecast;
  const all = curve.points.map((point, at) => ({ at, x: left(point), y: kept(point) })).sort((a, b) => a.x - b.x);
  const x = [...all.map((p) => p.x), 1];
  const y = [...all.map((p) => p.y), 1];
  const style = getComputedStyle(document.body);
  const ink = style.color;
  const line = getComputedStyle(document.querySelector("h1")).color;
  const axis = (label) => ({ label, stroke: ink, grid: { stroke: "rgba(128,128,128,0.25)" }, ticks: { stroke: "rgba(128,128,128,0.4)" } });
  const of = timed ? "time left" : "multiply-adds left";
  const what = curve.samples ? "answers that stay" : "1 - change, by forecast";
  const plot = new uPlot(
    {
      width: Math.max(320, place.clientWidth - 18),
      height: 320,
      scales: { x: { time: false, range: [0, 1.02] }, y: { range: (u, low) => [Math.max(0, Math.min(low, 0.95) - 0.02), 1.01] } },
      axes: [axis(of), axis(what)],
      series: [
        { label: of, value: (u, v) => (v == null ? "" : v.toFixed(3)) },
        { label: what, stroke: line, width: 2, points: { show: true, size: 8 }, value: (u, v) => (v == null ? "" : v.toFixed(4)) },
      ],
      cursor: { drag: { x: false, y: false } },
    },
    [x, y],
    place,
  );
  plot.over.addEventListener("click", () => {
    const point = all[plot.cursor.idx];
    if (point) select(point.at);
  });
  addEventListener("resize", () => plot.setSize({ width: Math.max(320, place.clientWidth - 18), height: 320 }));
}
