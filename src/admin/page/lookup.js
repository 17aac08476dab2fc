// What one request would meet, without sending it.

import { $, confirmed, el, toast, who } from './dom.js';
import { get, mayWrite, remove } from './api.js';
import { capital, count, countdown, keyWords, now } from './words.js';

const form = $('lookup-form');
let routes = [];

/** Offers these routes. */
export function offer(told) {
  const chosen = form.elements.route.value;
  routes = told.filter(({ limits }) => limits.length > 0);
  form.elements.route.replaceChildren(
    ...routes.map(({ name, match }) => el('option', { value: name }, `${name} — ${match}`)),
  );
  if (routes.some(({ name }) => name === chosen)) form.elements.route.value = chosen;
  showInputs();
}

/** What the limits of a route look at; a network is made of the address. */
function partsOf(name) {
  const limits = routes.find((route) => route.name === name)?.limits ?? [];
  const parts = limits.flatMap(({ key }) => key.split('+')).map((part) => (part === 'network' ? 'ip' : part));
  return [...new Set(['ip', ...parts])].filter((part) => part !== 'global');
}

function showInputs() {
  const before = Object.fromEntries(new FormData(form));
  const input = (part) =>
    el(
      'label',
      {},
      capital(keyWords(part)),
      el('input', {
        name: part,
        maxlength: 400,
        spellcheck: 'false',
        autocomplete: 'off',
        placeholder: part === 'ip' ? '203.0.113.7' : '',
      }),
    );
  $('lookup-inputs').replaceChildren(...partsOf(form.elements.route.value).map(input));
  for (const field of $('lookup-inputs').querySelectorAll('input')) field.value = before[field.name] ?? '';
}

async function look() {
  const answer = $('lookup-answer');
  try {
    const told = await get('keys', Object.fromEntries(new FormData(form)));
    const keys = Array.isArray(told) ? told : told.items;
    answer.replaceChildren(
      ...(keys.length
        ? keys.map(card)
        : [
            el(
              'div',
              { class: 'empty panel' },
              el('p', { class: 'title' }, 'Nothing is counted by these values'),
              el('p', {}, 'Fill in what the limits of this route look at.'),
            ),
          ]),
    );
    $('lookup-clear').hidden = !mayWrite() || keys.length === 0;
  } catch (error) {
    answer.replaceChildren(
      el(
        'div',
        { class: 'empty panel' },
        el('p', { class: 'title' }, 'This could not be looked up'),
        el('p', {}, error.message),
      ),
    );
    $('lookup-clear').hidden = true;
  }
}

function card({ policy, key, identifier, blocked_until: until, windows, retry_at: retryAt }) {
  return el(
    'section',
    { class: 'panel key' },
    el('header', {}, el('h2', {}, `${policy}, by ${keyWords(key)}`), state(until, retryAt)),
    el('p', { class: 'subject' }, identifier ? who(identifier) : 'everybody'),
    ...windows.map(gauge),
  );
}

function state(until, retryAt) {
  if (until) return el('p', { class: 'badge hot' }, 'Blocked, free again ', countdown(until));
  if (retryAt && Date.parse(retryAt) > now())
    return el('p', { class: 'badge warm' }, 'Refused, free again ', countdown(retryAt));
  return el('p', { class: 'badge good' }, 'Let through');
}

function gauge({ label, limit, used, remaining, resets_at: resetsAt }) {
  return el(
    'div',
    { class: 'gauge' },
    el('span', {}, label),
    el('meter', {
      min: 0,
      max: limit,
      value: used,
      low: limit * 0.7,
      high: limit * 0.99,
      optimum: 0,
      'aria-label': `${label}: ${used} of ${limit} used`,
    }),
    el('span', {}, `${count(used)} of ${count(limit)} used, ${count(remaining)} left`),
    resetsAt && used > 0 ? el('span', { class: 'under' }, 'the first is free again ', countdown(resetsAt)) : null,
  );
}

async function clear() {
  const yes = await confirmed({
    title: 'Clear these keys?',
    body: [el('p', {}, 'What was counted is forgotten and blocks of these keys end: the next request starts anew.')],
    action: 'Clear',
  });
  if (!yes) return;
  try {
    await remove('keys', Object.fromEntries(new FormData(form)));
    toast('Cleared.');
  } catch (error) {
    toast(error.message, 'bad');
  }
  await look();
}

form.elements.route.addEventListener('change', showInputs);
form.addEventListener('submit', (event) => {
  event.preventDefault();
  look();
});
$('lookup-clear').addEventListener('click', clear);
