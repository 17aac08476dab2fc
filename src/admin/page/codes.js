// One-time codes: how many were sent, arrived and came back, what they cost, and how those are who carry them.

import { $, arrange, cell, el, memory, say } from './dom.js';
import { get } from './api.js';
import { legend, makeChart } from './chart.js';
import { CHANNELS, FAULTS, count, counted, day, hourMinute, money, now, standing, time } from './words.js';

const HOUR_MS = 3_600_000;
const WEEK_MS = 7 * 24 * HOUR_MS;
// The hours that the last 24 touch.
const DAY_COLUMNS = 25;
// While codes are sent there is news all the time: no more often than this is asked for it.
const REFRESH_EVERY_MS = 1500;

const KINDS = new Set(['code_sent', 'code_undelivered', 'code_verified', 'fraud', 'provider_down', 'provider_up']);

const SERIES = [
  { name: 'Verified', tone: 'verified' },
  { name: 'Sent, not verified', tone: 'admitted' },
  { name: 'Not sent', tone: 'refused' },
];

const view = document.querySelector('[data-view="codes"]');
const draw = makeChart($('codes-chart'), $('codes-readout'));
let chartSpan = memory.get('codes-span') === 'week' ? 'week' : 'day';
let told = null;
let asked = 0;
// The providers as the table shows them: who is just reading or copying is not disturbed by the same again.
let shown = '';
let due = null;

/** Reads the numbers anew. */
export async function load() {
  const turn = ++asked;
  clearTimeout(due);
  due = null;
  try {
    const answer = await get('otp-stats', { since: new Date(now() - WEEK_MS).toISOString() });
    if (turn !== asked) return;
    told = answer;
    show();
  } catch (error) {
    // What was read before is worth more than none; the page says that the gateway is away.
    if (turn === asked && !(error.status === 0 && told)) fail(error);
  }
}

/** Whether an event changes what is shown here. */
export const concerns = ({ kind }) => KINDS.has(kind);

/** There is news: if somebody looks, it shows soon. */
export function refreshSoon() {
  if (due !== null || view.hidden) return;
  due = setTimeout(load, REFRESH_EVERY_MS);
}

/** Shows all times anew. */
export function redraw() {
  shown = '';
  if (told) show();
}

function fail(error) {
  told = null;
  instead('The codes could not be read', [error.message], el('button', { type: 'button', onclick: load }, 'Try again'));
}

function instead(title, text, ...more) {
  $('codes').hidden = true;
  $('codes-none').hidden = false;
  $('codes-none').replaceChildren(el('p', { class: 'title' }, title), el('p', {}, ...text), ...more);
}

function show() {
  const isUsed = told.configured || Object.values(told.totals).some((total) => total > 0);
  if (!isUsed) {
    instead('No one-time codes', [
      'No route of the configuration sends any. A route with ',
      el('code', {}, 'otp: send'),
      ', one with ',
      el('code', {}, 'otp: verify'),
      ' and a provider under ',
      el('code', {}, 'sms'),
      ' are all it takes.',
    ]);
    return;
  }
  $('codes-none').hidden = true;
  $('codes').hidden = false;
  $('codes-journal').hidden = told.journal.up;
  showTiles();
  showChart();
  showProviders();
}

const lastDay = () => told.hours.slice(-DAY_COLUMNS);
const sumOf = (items, number) => items.reduce((sum, item) => sum + number(item), 0);

function showTiles() {
  const total = (kind) => sumOf(lastDay(), (hour) => hour[kind]);
  const [sent, unsent, verified, fraud] = ['code_sent', 'code_undelivered', 'code_verified', 'fraud'].map(total);
  say($('n-sent'), count(sent));
  const trouble = [unsent && `${count(unsent)} not sent`, fraud && counted(fraud, 'sign of fraud', 'signs of fraud')];
  say($('n-sent-sub'), trouble.filter(Boolean).join(' · ') || 'All were taken by a provider');
  if (sent + unsent + fraud === 0) say($('n-sent-sub'), 'Nobody asked for one');

  const delivered = sumOf(told.providers, ({ last_day: of }) => of.delivered);
  const failed = sumOf(told.providers, ({ last_day: of }) => of.failed);
  const isReported = delivered + failed > 0;
  say($('n-delivered'), isReported ? count(delivered) : '–');
  const reported = failed > 0 ? `${count(failed)} did not arrive, as providers report` : 'As providers report';
  say($('n-delivered-sub'), isReported ? reported : 'No provider has reported');

  say($('n-verified'), count(verified));
  const percent = sent > 0 ? Math.min(100, Math.floor((100 * verified) / sent)) : null;
  say($('n-verified-sub'), percent === null ? 'Nothing was sent' : `${percent} % of what was sent`);
  showCost();
}

function showCost() {
  const by = new Map();
  for (const { spent_last_day: spent } of told.providers) {
    if (spent) by.set(spent.currency, (by.get(spent.currency) ?? 0) + spent.micros);
  }
  const [first, ...others] = [...by].sort(([, a], [, b]) => b - a);
  if (!first) {
    say($('n-cost'), '–');
    say($('n-cost-sub'), 'No provider has a price');
    return;
  }
  $('n-cost').replaceChildren(money(first[1]), el('small', {}, ` ${first[0]}`));
  const more = others.map(([currency, micros]) => `${money(micros)} ${currency}`);
  say($('n-cost-sub'), more.length ? `and ${more.join(', ')}` : 'By the prices of the configuration');
}

function showChart() {
  draw(chartSpan === 'day' ? byHour() : byDay());
}

/** Codes that were sent in the hour before may come back in this one. */
function parts(hours) {
  const total = (kind) => sumOf(hours, (hour) => hour[kind]);
  const verified = total('code_verified');
  return [verified, Math.max(0, total('code_sent') - verified), total('code_undelivered')];
}

const fraudWords = (hours) => {
  const fraud = sumOf(hours, (hour) => hour.fraud);
  return fraud > 0 ? ` (${counted(fraud, 'sign of fraud', 'signs of fraud')})` : '';
};

function byHour() {
  const columns = lastDay().map((hour) => {
    const label = hourMinute(hour.at);
    return {
      place: Number(label.split(':')[0]),
      label,
      title: `${label}, one hour${fraudWords([hour])}`,
      parts: parts([hour]),
    };
  });
  const name = 'Codes an hour in the last 24 hours';
  return { name, series: SERIES, steps: [1, 2, 3, 4, 6, 12], columns, note: 'Codes an hour.' };
}

function byDay() {
  const days = new Map();
  for (const hour of told.hours) {
    const label = day(hour.at);
    days.set(label, [...(days.get(label) ?? []), hour]);
  }
  const columns = [...days].map(([label, hours], place) => ({
    place,
    label,
    title: `${label}, one day${fraudWords(hours)}`,
    parts: parts(hours),
  }));
  const name = 'Codes a day in the last 7 days';
  return { name, series: SERIES, steps: [1, 2, 4], columns, note: 'Codes a day.' };
}

function showSpan() {
  for (const button of document.querySelectorAll('[data-codes-span]')) {
    button.setAttribute('aria-pressed', String(button.dataset.codesSpan === chartSpan));
  }
  if (told) showChart();
}

function showProviders() {
  const { providers } = told;
  const said = JSON.stringify(providers);
  if (said === shown) return;
  shown = said;
  $('providers').querySelector('.scroll').hidden = providers.length === 0;
  $('providers').querySelector('.empty').hidden = providers.length > 0;
  arrange($('providers').querySelector('tbody'), providers.map(providerRow));
}

function providerRow(provider) {
  const { name, kind, channels, last_hour: ofHour, last_day: ofDay, last_fault: fault } = provider;
  const { word, tone, text } = standing(provider);
  return el(
    'tr',
    { role: 'row' },
    cell(
      'Provider',
      {},
      el('b', {}, name),
      el('span', { class: 'under' }, ...dotted([kind, ...channels.map((channel) => CHANNELS[channel] ?? channel)])),
    ),
    cell('State', {}, el('span', { class: `badge ${tone}` }, word), text && el('span', { class: 'under' }, ...text)),
    cell('Last hour', {}, ...messages(ofHour)),
    cell('24 hours', {}, ...messages(ofDay)),
    cell('Cost, 24 h', {}, ...cost(provider.spent_last_day)),
    cell('Last fault', {}, ...(fault ? lastFault(fault) : [none('None')])),
  );
}

/** `25 delivered · 22 verified`: a line ends between two of them alone. */
const dotted = (words) =>
  words.flatMap((word, place) => [place > 0 && ' · ', el('span', { class: 'whole' }, word)]);

const none = (word) => el('span', { class: 'lead' }, word);

function messages({ sent, delivered, failed, verified }) {
  if (sent + delivered + failed + verified === 0) return [none('None')];
  const words = [
    delivered + failed > 0 && `${count(delivered)} delivered`,
    failed > 0 && `${count(failed)} failed`,
    `${count(verified)} verified`,
  ];
  return [el('span', {}, `${count(sent)} sent`), el('span', { class: 'under' }, ...dotted(words.filter(Boolean)))];
}

function cost(spent) {
  if (!spent) return [none('No price')];
  const most = spent.daily_max_micros;
  const under = most === null ? 'no maximum' : `of ${money(most)} a day`;
  return [el('span', {}, `${money(spent.micros)} ${spent.currency}`), el('span', { class: 'under' }, under)];
}

function lastFault({ at, fault, code }) {
  return [
    el('span', {}, FAULTS[fault] ?? fault),
    el('span', { class: 'under' }, code && el('code', {}, code), code && ', ', time(at)),
  ];
}

for (const button of document.querySelectorAll('[data-codes-span]')) {
  button.addEventListener('click', () => {
    chartSpan = button.dataset.codesSpan;
    memory.set('codes-span', chartSpan);
    showSpan();
  });
}
$('codes-legend').replaceChildren(...legend(SERIES));
showSpan();
