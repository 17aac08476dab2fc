// The table of active blocks; letting go, and blocking by hand.

import { $, announce, cell, confirmed, details, el, say, setOptions, toast, visible, who } from './dom.js';
import { address, mayWrite, post, session } from './api.js';
import { makeList } from './list.js';
import { capital, count, counted, countdown, keyWords, span, time, why } from './words.js';
import { options, ruleOf } from './rules.js';

const panel = $('blocks');
const filters = panel.querySelector('.filters');
const TELL_EVERY_MS = 3000;
let active = null;

const list = makeList({
  panel,
  path: 'blocked-identifiers',
  query: () => Object.fromEntries(new FormData(filters)),
  row,
  none: (filtered) =>
    filtered
      ? { title: 'No block fits this filter', text: 'Clear the filter to see all that are active.' }
      : {
          title: 'Nobody is blocked',
          text: 'Whoever goes past a limit that blocks appears here at once, and leaves when the time is over.',
        },
  total: () => active,
  changed: filtersChanged,
});

export const { first, refreshSoon, redraw } = list;

/** Learns how many blocks there are. */
export function setTotal(total) {
  active = total;
}

let untold = [];

/** Someone was blocked or let go, as the stream tells. */
export function heard(kind, block) {
  refreshSoon();
  if (untold.length === 0) setTimeout(tell, TELL_EVERY_MS);
  untold.push(`${visible(block.identifier ?? 'Somebody')} ${kind === 'block' ? 'is blocked' : 'is free again'}`);
}

// Under attack nobody could listen to them all.
function tell() {
  announce(untold.length === 1 ? untold[0] : `${count(untold.length)} changes among the blocks`);
  untold = [];
}

function row(block) {
  const by = keyWords(block.key);
  const actions = cell(
    '',
    { class: 'acts' },
    el('button', { type: 'button', class: 'quiet', onclick: () => showDetails(block) }, 'Details'),
    mayWrite() &&
      el(
        'button',
        { type: 'button', onclick: () => unblock(block), 'aria-label': `Unblock ${visible(block.identifier)}` },
        'Unblock',
      ),
  );
  return el(
    'tr',
    { role: 'row', 'data-block': block.id },
    cell('Who', {}, who(block.identifier), el('span', { class: 'under' }, by)),
    cell(
      'Why',
      {},
      el('span', { class: `why reason-${block.reason}` }, why(block)),
      block.policy && el('span', { class: 'under' }, `policy ${block.policy}`),
    ),
    cell('Route', {}, block.route ?? 'every route'),
    cell('Attempts', { class: 'num' }, block.attempts ? count(block.attempts) : '–'),
    cell('Since', {}, time(block.created_at)),
    cell('Free again', {}, countdown(block.expires_at), el('span', { class: 'under' }, time(block.expires_at))),
    actions,
  );
}

function showDetails(block) {
  const lasts = (Date.parse(block.expires_at) - Date.parse(block.created_at)) / 1000;
  const actions = [
    !session.masked &&
      el(
        'a',
        {
          class: 'button',
          href: `#events?${new URLSearchParams({ identifier: block.identifier })}`,
          onclick: closeDetails,
        },
        'Its events',
      ),
    mayWrite() &&
      el(
        'button',
        {
          type: 'button',
          class: 'danger',
          onclick: () => {
            closeDetails();
            unblock(block);
          },
        },
        'Unblock…',
      ),
  ];
  details(
    'Why this is blocked',
    [
      ['Who', who(block.identifier)],
      ['Counted by', keyWords(block.key)],
      ['Why', why(block)],
      ['Rule', ruleOf(block)],
      ['Policy', block.policy],
      ['Route', block.route ?? 'every route'],
      ['Attempts', block.attempts ? count(block.attempts) : ''],
      ['Since', time(block.created_at)],
      ['Free again', el('span', {}, countdown(block.expires_at), ', at ', time(block.expires_at))],
      ['Lasts', span(lasts)],
      ['Blocked by', block.by],
      ['Note', block.note],
      ['Gateway', block.node],
      ['Id', el('code', {}, block.id)],
    ],
    actions.filter(Boolean),
  );
}

const closeDetails = () => $('details').close();

async function unblock(block) {
  const yes = await confirmed({
    title: 'Unblock?',
    body: [
      el('p', { class: 'subject' }, who(block.identifier)),
      el('p', {}, `${why(block)}. The next request is let through, and counting starts anew.`),
    ],
    action: 'Unblock',
  });
  if (yes) await release({ id: block.id });
}

async function unblockAll() {
  const { search: text, kind, reason, route } = Object.fromEntries(new FormData(filters));
  const which = [
    text && `that match “${visible(text)}”`,
    reason && `for ${reason}`,
    kind && `by ${keyWords(kind)}`,
    route && `on ${route}`,
  ].filter(Boolean);
  const yes = await confirmed({
    title: which.length ? 'Unblock all that match?' : `Unblock all ${counted(active ?? 0, 'block')}?`,
    body: [
      el(
        'p',
        {},
        which.length
          ? `All blocks ${which.join(', ')}, on all pages.`
          : 'Nobody will be blocked any more, attackers neither.',
      ),
      el('p', {}, 'The record keeps who did this.'),
    ],
    action: 'Unblock all',
    word: 'unblock',
  });
  const given = Object.entries({ search: text, kind, reason, route }).filter(([, value]) => value);
  if (yes) await release({ all: true, ...Object.fromEntries(given) });
}

async function release(order) {
  try {
    const { unblocked } = await post('unblock-identifier', order);
    toast(unblocked === 0 ? 'It was free already.' : `${counted(unblocked, 'block')} lifted.`);
  } catch (error) {
    toast(error.message, 'bad');
  }
  await list.load();
  // The button that was pressed is gone with its row.
  if (document.activeElement === document.body) $('main').focus({ preventScroll: true });
}

function filtersChanged() {
  const now = Object.fromEntries(new FormData(filters));
  showOrder(now.sort);
  say($('unblock-all'), now.search || now.kind || now.reason || now.route ? 'Unblock all that match…' : 'Unblock all…');
  const { sort, ...rest } = now;
  for (const link of panel.querySelectorAll('[data-export]')) {
    link.href = address('blocked-identifiers/export', { format: link.dataset.export, ...rest, sort });
  }
}

function showOrder(sort) {
  for (const head of panel.querySelectorAll('[data-sort]')) {
    const order = { [head.dataset.sort]: 'ascending', [`-${head.dataset.sort}`]: 'descending' }[sort];
    if (order) head.setAttribute('aria-sort', order);
    else head.removeAttribute('aria-sort');
  }
}

function sortBy({ sort, first: sign = '' }) {
  const select = filters.elements.sort;
  const other = sign === '-' ? sort : `-${sort}`;
  select.value = select.value === sign + sort ? other : sign + sort;
  select.dispatchEvent(new Event('input', { bubbles: true }));
}

function openBlockForm() {
  const form = $('block-form');
  const keys = options().keys.filter((key) => !key.split('+').includes('global'));
  form.reset();
  form.elements.key.replaceChildren(...keys.map((key) => el('option', { value: key }, keyWords(key))));
  form.querySelector('.error').textContent = '';
  showBlockInputs();
  $('block-dialog').showModal();
}

function showBlockInputs() {
  const parts = $('block-form').elements.key.value.split('+');
  const input = (part) =>
    el(
      'label',
      {},
      capital(keyWords(part)),
      el('input', {
        name: 'value',
        required: true,
        maxlength: 400,
        spellcheck: 'false',
        autocomplete: 'off',
        placeholder: part === 'ip' ? '203.0.113.7' : '',
      }),
    );
  $('block-inputs').replaceChildren(...parts.map(input));
  $('block-as').hidden = parts.every((part) => ['ip', 'network', 'user'].includes(part));
}

async function block(event) {
  event.preventDefault();
  const form = event.currentTarget;
  const button = form.querySelector('[type=submit]');
  const told = new FormData(form);
  const [keys, values] = [told.get('key').split('+'), told.getAll('value')];
  const one = keys.length === 1;
  const order = { key: one ? keys[0] : keys, identifier: one ? values[0] : values, for: told.get('for') };
  if (!$('block-as').hidden && told.get('as')) order.as = told.get('as');
  if (told.get('note')) order.note = told.get('note');
  button.disabled = true;
  try {
    const made = await post('blocked-identifiers', order);
    $('block-dialog').close();
    toast(`${visible(made.identifier)} is blocked.`);
    await list.first();
  } catch (error) {
    form.querySelector('.error').textContent = error.message;
  } finally {
    button.disabled = false;
  }
}

/** Offers these to filter by. */
export function offer(told) {
  for (const select of filters.querySelectorAll('[data-options]')) setOptions(select, told[select.dataset.options]);
}

panel.querySelector('thead').addEventListener('click', (event) => {
  const head = event.target.closest('button') && event.target.closest('[data-sort]');
  if (head) sortBy(head.dataset);
});
$('unblock-all').addEventListener('click', unblockAll);
$('block-open').addEventListener('click', openBlockForm);
$('block-cancel').addEventListener('click', () => $('block-dialog').close());
$('block-form').addEventListener('submit', block);
$('block-form').elements.key.addEventListener('change', showBlockInputs);
filtersChanged();
