// What somebody who was just woken wants to see: is it well, how much is refused, who and why.

import { $, el, memory, say, visible } from './dom.js';
import { get, session } from './api.js';
import { legend, makeChart } from './chart.js';
import { count, counted, hourMinute, keyWords, kindOf, now, rate, span } from './words.js';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const RATE_OVER_MS = 10_000;

const SERIES = {
  hour: [
    { name: 'Refused', tone: 'refused' },
    { name: 'Let through', tone: 'admitted' },
  ],
  day: [
    { name: 'Over a limit', tone: 'refused' },
    { name: 'Made to wait', tone: 'backoff' },
    { name: 'Rejected or denied', tone: 'denied' },
    { name: 'Failed attempts', tone: 'failure' },
  ],
};

const draw = makeChart($('chart'), $('readout'));
let chartSpan = memory.get('span') === 'day' ? 'day' : 'hour';
let stats = null;
// Totals since the gateway started, as they were told of late: [{ at, requests, refused }].
let samples = [];
// By the start of the minute, ms: { requests, refused }.
const minutes = new Map();

/** Reads the statistics anew. Answers with how many blocks are active. */
export async function load() {
  const told = await get('rate-limit-stats');
  showHealth(told, stats);
  stats = told;
  heard({ requests: told.requests.total, refused: told.requests.refused, active_blocks: told.active_blocks.total });
  for (const { at, requests, refused } of told.minutes) minutes.set(Date.parse(at), { requests, refused });
  showTotals();
  showTops();
  showChart();
  return told.active_blocks.total;
}

/** Takes up the numbers that come every other second. */
export function heard({ requests, refused, active_blocks: blocks }) {
  const at = now();
  const last = samples.at(-1);
  // Fewer than before: it is another process, which began at none.
  if (last && requests < last.requests) samples = [];
  else if (last) addToMinute(at, requests - last.requests, refused - last.refused);
  samples = [...samples.filter((sample) => at - sample.at <= RATE_OVER_MS), { at, requests, refused }];
  say($('n-blocks'), count(blocks));
  showRates();
  if (chartSpan === 'hour') showChart();
}

function addToMinute(at, requests, refused) {
  const start = Math.floor(at / MINUTE_MS) * MINUTE_MS;
  const minute = minutes.get(start) ?? { requests: 0, refused: 0 };
  minutes.set(start, { requests: minute.requests + requests, refused: minute.refused + refused });
  for (const old of minutes.keys()) if (at - old > HOUR_MS + MINUTE_MS) minutes.delete(old);
}

function showRates() {
  const [first, last] = [samples[0], samples.at(-1)];
  const seconds = (last.at - first.at) / 1000;
  if (seconds < 1) return;
  const [requests, refused] = [last.requests - first.requests, last.refused - first.refused];
  $('n-requests').replaceChildren(rate(requests / seconds), el('small', {}, '/s'));
  $('n-refused').replaceChildren(rate(refused / seconds), el('small', {}, '/s'));
  say($('n-requests-sub'), `${count(last.requests)} since the start`);
  const share = requests > 0 ? `${Math.round((100 * refused) / requests)} % right now, ` : '';
  say($('n-refused-sub'), `${share}${count(last.refused)} since the start`);
}

const REASONS = { failures: 'failures', limit: 'limits', suspicion: 'suspicion', operator: 'by hand' };

function showTotals() {
  const by = Object.entries(stats.active_blocks.by_reason ?? {}).filter(([, number]) => number > 0);
  const words = by.map(([reason, number]) => `${REASONS[reason] ?? reason} ${count(number)}`);
  say($('n-blocks-sub'), words.join(' · ') || 'Nobody is kept out');
  const total = (kind) => stats.hours.reduce((sum, hour) => sum + (hour[kind] ?? 0), 0);
  say($('n-failures'), count(total('failure')));
  say($('n-failures-sub'), `${counted(total('blocked'), 'block')} began, ${count(total('suspicion'))} suspicious`);
  say($('foot'), `Tollgate ${stats.version}, up ${span(stats.uptime_s)}`);
}

function showHealth(told, before) {
  const items = [
    told.store.up ? health('good', 'Store', told.store.kind) : health('bad', 'Store', `${told.store.kind} is away`),
    ...(told.upstreams ?? []).map((upstream) => upstreamHealth(upstream, before)),
    journalHealth(told.journal),
  ];
  $('health').replaceChildren(...items);
}

function health(tone, name, text) {
  return el('li', { class: tone }, el('i', { 'aria-hidden': 'true' }), el('b', {}, name), ` ${text}`);
}

/** An upstream is in trouble if it failed since it was last asked after, or if none of its servers is well. */
function upstreamHealth({ name, failures, servers, servers_up, ...responses }, before) {
  const earlier = before?.upstreams?.find((upstream) => upstream.name === name)?.failures ?? failures;
  const server = responses.responses_5xx ?? 0;
  if (servers_up === 0) return health('bad', name, servers > 0 ? 'no server is well' : 'no server is known');
  if (failures > earlier) return health('bad', name, `failing: ${count(failures - earlier)} just now`);
  if (servers_up < servers) return health('fair', name, `${count(servers_up)} of ${counted(servers, 'server')} are well`);
  if (failures > 0) return health('fair', name, `answers; failed ${counted(failures, 'time')} since the start`);
  return health('good', name, server > 0 ? `answers; ${count(server)} times with 5xx` : 'answers');
}

function journalHealth({ up, queue, dropped }) {
  if (!up) return health('bad', 'Journal', 'cannot write: blocks hold only until a restart');
  if (dropped > 0) return health('fair', 'Journal', `${counted(dropped, 'event')} lost`);
  return health('good', 'Journal', queue > 1000 ? `${count(queue)} events behind` : 'keeps up');
}

function showTops() {
  top('top-reasons', stats.top_reasons, ({ kind, policy }) => ({
    text: policy ? `${kindOf(kind).word}: ${policy}` : kindOf(kind).word,
    query: policy ? { kind, policy } : { kind },
  }));
  top('top-who', stats.top_identifiers, ({ identifier, key }) => ({
    text: visible(identifier),
    under: keyWords(key),
    query: session.masked ? null : { identifier },
  }));
  top('top-routes', stats.top_routes, ({ route }) => ({ text: route, query: { route } }));
}

function top(id, items, describe) {
  const most = Math.max(1, ...items.map((item) => item.count));
  const rows = items.slice(0, 8).map((item) => {
    const { text, under, query } = describe(item);
    const bar = el('span', { class: 'share', 'aria-hidden': 'true' });
    bar.style.width = `${(100 * item.count) / most}%`;
    const name = query
      ? el('a', { href: `#events?${new URLSearchParams(query)}`, dir: 'auto', title: text }, text)
      : el('bdi', { title: text }, text);
    return el(
      'li',
      {},
      bar,
      el('span', { class: 'name' }, name, under && el('span', { class: 'under' }, under)),
      el('b', {}, count(item.count)),
    );
  });
  $(id).replaceChildren(...(rows.length ? rows : [el('li', { class: 'none' }, 'Nothing in the last 24 hours.')]));
}

function showChart() {
  draw(chartSpan === 'hour' ? lastHour() : lastDay());
}

function showSpan() {
  $('legend').replaceChildren(...legend(SERIES[chartSpan]));
  for (const button of document.querySelectorAll('[data-span]')) {
    button.setAttribute('aria-pressed', String(button.dataset.span === chartSpan));
  }
  if (stats) showChart();
}

const hourOf = (label) => Number(label.split(':')[0]);
const minuteOf = (label) => Number(label.split(':')[1]);

function lastHour() {
  const end = Math.floor(now() / MINUTE_MS) * MINUTE_MS;
  const columns = Array.from({ length: 60 }, (_, index) => {
    const start = end - (59 - index) * MINUTE_MS;
    const { requests, refused } = minutes.get(start) ?? { requests: 0, refused: 0 };
    const label = hourMinute(start);
    return {
      place: minuteOf(label),
      label,
      title: `${label}, one minute`,
      parts: [refused, Math.max(0, requests - refused)],
    };
  });
  const note = 'Requests a minute.';
  return { name: 'Requests a minute in the last hour', series: SERIES.hour, steps: [5, 10, 15, 20, 30], columns, note };
}

function lastDay() {
  const columns = (stats?.hours ?? []).map((hour) => {
    const label = hourMinute(hour.at);
    const parts = [hour.limited, hour.backoff, hour.rejected + hour.denied, hour.failure];
    return {
      place: hourOf(label),
      label,
      title: `${label}, one hour (${counted(hour.blocked, 'block')} began)`,
      parts,
    };
  });
  const note = 'Refusals and failed attempts an hour.';
  return {
    name: 'Refusals and failed attempts an hour in the last 24 hours',
    series: SERIES.day,
    steps: [1, 2, 3, 4, 6, 12],
    columns,
    note,
  };
}

/** Shows all times anew. */
export function redraw() {
  if (stats) showChart();
}

for (const button of document.querySelectorAll('[data-span]')) {
  button.addEventListener('click', () => {
    chartSpan = button.dataset.span;
    memory.set('span', chartSpan);
    showSpan();
  });
}
showSpan();
