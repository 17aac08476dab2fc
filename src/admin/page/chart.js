// Stacked columns over time, drawn as inline SVG.

import { el, say, svg } from './dom.js';
import { count } from './words.js';

const HEIGHT = 190;
const EDGE = { top: 10, right: 4, bottom: 22, left: 44 };
const LABEL_EVERY_PX = 70;
const LABEL_HALF_PX = 17;
// The part of its place that a column leaves free.
const GAP = 0.22;

/**
 * A chart in this container. Pointing at a column, or the arrow keys, tells its numbers in `readout`.
 * Returns `draw({ name, note, series: [{ name, tone }], steps, columns: [{ place, label, title, parts: [number, …] }] })`.
 * Columns whose `place`, the minute or hour, is a multiple of one of `steps` are labelled.
 */
export function makeChart(container, readout) {
  let shown = null;
  let picked = null;

  const paint = () => {
    const width = container.clientWidth;
    if (shown && width) container.replaceChildren(picture(shown, width, picked));
  };
  const pick = (index) => {
    picked = index;
    paint();
    say(readout, shown ? reading(shown, picked) : '');
  };

  container.tabIndex = 0;
  container.setAttribute('role', 'img');
  container.addEventListener('pointermove', (event) => {
    const index = shown && columnAt(shown, container, event);
    if (index !== picked) pick(index);
  });
  container.addEventListener('pointerleave', () => pick(null));
  container.addEventListener('blur', () => pick(null));
  container.addEventListener('keydown', (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !shown) return;
    event.preventDefault();
    const last = shown.columns.length - 1;
    pick(Math.min(last, Math.max(0, (picked ?? (step < 0 ? last + 1 : -1)) + step)));
  });
  new ResizeObserver(paint).observe(container);

  return function draw(chart) {
    if (picked !== null && picked >= chart.columns.length) picked = null;
    shown = chart;
    // Not while somebody is listening to it.
    if (document.activeElement !== container)
      container.setAttribute('aria-label', `${chart.name}. ${totals(chart)}. Arrow keys tell each column.`);
    paint();
    say(readout, reading(shown, picked));
  };
}

/** The names of what is stacked, for the chart's head. */
export function legend(series) {
  return series.map(({ name, tone }) => el('li', { class: `tone-${tone}` }, name));
}

function picture(chart, width, picked) {
  const inner = { width: width - EDGE.left - EDGE.right, height: HEIGHT - EDGE.top - EDGE.bottom };
  const top = ceiling(Math.max(1, ...chart.columns.map((column) => sum(column.parts))));
  const y = (value) => EDGE.top + inner.height * (1 - value / top);
  const step = inner.width / chart.columns.length;
  const root = svg('svg', { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, 'aria-hidden': 'true' });
  for (const value of new Set([0, top / 2, top].filter(Number.isInteger))) {
    root.append(
      svg('line', { class: 'grid', x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value) }),
      svg('text', { class: 'tick', x: EDGE.left - 8, y: y(value) + 4, 'text-anchor': 'end' }, short(value)),
    );
  }
  chart.columns.forEach((column, index) => {
    const x = EDGE.left + index * step;
    if (index === picked)
      root.append(svg('rect', { class: 'picked', x, y: EDGE.top, width: step, height: inner.height }));
    let base = 0;
    column.parts.forEach((value, part) => {
      if (value <= 0) return;
      // A single refusal among thousands of requests must still be seen.
      const height = Math.max(1.5, y(base) - y(base + value));
      const place = { x: x + (step * GAP) / 2, y: y(base) - height, width: step * (1 - GAP), height };
      root.append(svg('rect', { class: `bar tone-${chart.series[part].tone}`, rx: Math.min(2, step / 6), ...place }));
      base += value;
    });
  });
  root.append(...xLabels(chart, step));
  return root;
}

function xLabels({ columns, steps }, step) {
  const every = steps.find((count) => count * step >= LABEL_EVERY_PX) ?? steps.at(-1);
  const end = EDGE.left + columns.length * step;
  return columns.flatMap(({ label, place }, index) => {
    const x = EDGE.left + (index + 0.5) * step;
    if (place % every !== 0 || x + LABEL_HALF_PX > end) return [];
    return [svg('text', { class: 'tick', x, y: HEIGHT - 6, 'text-anchor': 'middle' }, label)];
  });
}

function columnAt(chart, container, event) {
  const box = container.getBoundingClientRect();
  const step = (box.width - EDGE.left - EDGE.right) / chart.columns.length;
  const index = Math.floor((event.clientX - box.left - EDGE.left) / step);
  return index >= 0 && index < chart.columns.length ? index : null;
}

function reading(chart, picked) {
  if (picked === null) return chart.note ?? '';
  const { title, parts } = chart.columns[picked];
  return `${title} — ${chart.series.map(({ name }, part) => `${name.toLowerCase()} ${count(parts[part])}`).join(', ')}`;
}

function totals({ series, columns }) {
  const total = (part) => count(sum(columns.map(({ parts }) => parts[part])));
  return series.map(({ name }, part) => `${name}: ${total(part)}`).join(', ');
}

const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

/** The next of 2, 4, 10, 20, 40, 100 …: halves are whole. */
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [2, 4, 10].map((step) => step * power).find((step) => step >= value) ?? 20 * power;
}

function short(value) {
  if (value >= 1e6) return `${value / 1e6}M`;
  return value >= 1e4 ? `${value / 1e3}k` : count(value);
}
