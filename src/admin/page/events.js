// The log of events.

import { $, cell, details, el, setOptions, who } from './dom.js';
import { address, session } from './api.js';
import { makeList } from './list.js';
import { KINDS, count, keyWords, kindOf, now, time } from './words.js';

const panel = $('events');
const filters = panel.querySelector('.filters');
const SPANS_MS = { '1h': 3_600_000, '24h': 86_400_000, '7d': 7 * 86_400_000 };

panel
  .querySelector('.chips')
  .append(
    ...Object.entries(KINDS).map(([kind, { word }]) =>
      el('label', {}, el('input', { type: 'checkbox', name: 'kind', value: kind }), el('span', {}, word)),
    ),
  );

const list = makeList({
  panel,
  path: 'rate-limit-logs',
  query,
  row,
  none: (filtered) =>
    filtered
      ? { title: 'No event fits this filter', text: 'Clear the filter, or widen the time span.' }
      : {
          title: 'Nothing has happened yet',
          text: 'Refusals, failed attempts, blocks and what admins do are written down here.',
        },
  changed: filtersChanged,
});

export const { first, refreshSoon, redraw } = list;

/** Sets the filters from the page's address. */
export function filterBy(parameters) {
  for (const field of filters.elements) {
    if (!field.name) continue;
    if (field.type === 'checkbox') field.checked = parameters.getAll(field.name).includes(field.value);
    else field.value = choose(field, parameters.get(field.name) ?? '');
  }
  showExports();
}

// An address may name a route that is gone: it is filtered by all the same.
function choose(field, value) {
  if (field.dataset.options && value && ![...field.options].some((option) => option.value === value)) {
    field.append(el('option', { value }, value));
  }
  return value;
}

/** Offers these to filter by. */
export function offer(options) {
  for (const select of filters.querySelectorAll('[data-options]')) setOptions(select, options[select.dataset.options]);
}

function query() {
  const told = new FormData(filters);
  const { span, ...asked } = Object.fromEntries([...told].filter(([, value]) => value !== ''));
  if (told.has('kind')) asked.kind = told.getAll('kind');
  // To the minute, so that the pages of one look stand still.
  if (span) asked.since = new Date(Math.floor((now() - SPANS_MS[span]) / 60_000) * 60_000).toISOString();
  return asked;
}

function filtersChanged() {
  const told = new URLSearchParams([...new FormData(filters)].filter(([, value]) => value !== ''));
  history.replaceState(null, '', told.size ? `#events?${told}` : '#events');
  showExports();
}

function showExports() {
  for (const link of panel.querySelectorAll('[data-export]')) {
    link.href = address('rate-limit-logs/export', { format: link.dataset.export, ...query() });
  }
}

function row(event) {
  const { word, tone } = kindOf(event.kind);
  return el(
    'tr',
    { role: 'row' },
    cell('When', {}, time(event.at)),
    cell(
      'What',
      {},
      el('span', { class: `badge ${tone}` }, word),
      event.count > 1 && el('span', { class: 'times' }, `× ${count(event.count)}`),
      event.detail && el('span', { class: 'under' }, event.detail),
    ),
    cell(
      'Who',
      {},
      event.identifier ? who(event.identifier) : '–',
      event.key && el('span', { class: 'under' }, keyWords(event.key)),
    ),
    cell(
      'Route and policy',
      {},
      event.route ?? '–',
      event.policy && el('span', { class: 'under' }, policyWords(event)),
    ),
    cell('Client', {}, event.client ? el('code', {}, event.client) : '–'),
    cell(
      '',
      { class: 'acts' },
      el('button', { type: 'button', class: 'quiet', onclick: () => showDetails(event) }, 'Details'),
    ),
  );
}

const policyWords = ({ policy, window }) => `policy ${policy}${window ? `, ${window}` : ''}`;

function showDetails(event) {
  const same =
    event.identifier &&
    !session.masked &&
    el(
      'a',
      {
        class: 'button',
        href: `#events?${new URLSearchParams({ identifier: event.identifier })}`,
        onclick: () => $('details').close(),
      },
      'All of this identifier',
    );
  details(
    kindOf(event.kind).word,
    [
      ['When', time(event.at)],
      ['How often', event.count > 1 ? `${count(event.count)} alike, close together` : ''],
      ['Severity', event.severity],
      ['Detail', event.detail],
      ['Who', event.identifier && who(event.identifier)],
      ['Counted by', event.key && keyWords(event.key)],
      ['Route', event.route],
      ['Policy', event.policy],
      ['Window', event.window],
      ['Client', event.client],
      ['User agent', event.user_agent && who(event.user_agent)],
      ['Trace', event.trace_id && el('code', {}, event.trace_id)],
      ['Gateway', event.node],
    ],
    same ? [same] : [],
  );
}
