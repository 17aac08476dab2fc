// The rules in force, in plain words.

import { $, cell, confirmed, el, toast } from './dom.js';
import { get, post } from './api.js';
import { capital, keyWords } from './words.js';

let routes = [];

/** Reads the rules of all routes. */
export async function load() {
  try {
    const told = await get('routes');
    routes = Array.isArray(told) ? told : told.items;
    show();
  } catch (error) {
    $('rules').replaceChildren(
      el(
        'div',
        { class: 'empty panel' },
        el('p', { class: 'title' }, 'The rules could not be read'),
        el('p', {}, error.message),
        el('button', { type: 'button', onclick: load }, 'Try again'),
      ),
    );
  }
  return routes;
}

/** The words of the rule that made a block, if it is in force still and no other could have. */
export function ruleOf({ route, policy, key }) {
  const limits = routes.find(({ name }) => name === route)?.limits ?? [];
  const able = limits.filter(
    (limit) => limit.policy === policy && limit.key === key && limit.rule.includes('blocked for'),
  );
  return able.length === 1 ? able[0].rule : '';
}

/** What tables can be filtered by. */
export function options() {
  return {
    routes: routes.map(({ name }) => name),
    policies: [...new Set(routes.flatMap(({ limits }) => limits.map(({ policy }) => policy)))],
    // An address is looked up whatever the rules count by.
    keys: [...new Set(['ip', ...routes.flatMap(({ limits }) => limits.map(({ key }) => key))])],
  };
}

function show() {
  const words = $('rules-search').value.trim().toLowerCase();
  const found = routes.filter((route) => JSON.stringify(route).toLowerCase().includes(words));
  $('rules').replaceChildren(...(found.length ? found.map(card) : [none(words)]));
}

function none(words) {
  const text = words
    ? 'No route and no rule has these letters.'
    : 'The configuration has no routes: every request is answered with 404.';
  return el(
    'div',
    { class: 'empty panel' },
    el('p', { class: 'title' }, words ? 'Nothing found' : 'No routes'),
    el('p', {}, text),
  );
}

function card(route) {
  const { name, match, upstream, limits, failure, rejects } = route;
  const facts = [
    failure && el('li', {}, sentence(failure)),
    rejects > 0 && el('li', {}, `${rejects} ${rejects === 1 ? 'rule rejects' : 'rules reject'} values of the body.`),
  ].filter(Boolean);
  return el(
    'article',
    { class: 'panel rule' },
    el(
      'header',
      {},
      el('h2', {}, name),
      el('p', { class: 'match' }, el('code', {}, match), upstream && el('span', {}, ` to ${upstream}`)),
      el('a', { class: 'button quiet', href: `#events?${new URLSearchParams({ route: name })}` }, 'Events'),
    ),
    limits.length ? table(name, limits) : el('p', { class: 'lead' }, 'No limit.'),
    facts.length ? el('ul', { class: 'facts' }, ...facts) : null,
  );
}

const sentence = (text) => capital(text).replace(/\.?$/, '.');

// How a rule begins: `by body.email (e-mail): `. That has a column of its own.
const BY = /^by [^:]*: /;
const form = (rule) => BY.exec(rule)?.[0].match(/ \([^)]*\)/)?.[0];

function table(name, limits) {
  const head = el(
    'tr',
    { role: 'row' },
    ...['Policy', 'Counted by', 'Rule'].map((text) => el('th', { scope: 'col', role: 'columnheader' }, text)),
  );
  const rows = limits.map(({ policy, key, rule, mode }) =>
    el(
      'tr',
      { role: 'row' },
      cell('Policy', {}, policy),
      cell('Counted by', {}, keyWords(key), form(rule)),
      cell(
        'Rule',
        {},
        sentence(rule.replace(BY, '')),
        mode === 'shadow' &&
          el('span', { class: 'badge plain', title: 'Decided, counted and logged, never refused' }, 'shadow'),
      ),
    ),
  );
  return el(
    'table',
    { role: 'table' },
    el('caption', { class: 'sr' }, `Limits of ${name}`),
    el('thead', { role: 'rowgroup' }, head),
    el('tbody', { role: 'rowgroup' }, ...rows),
  );
}

async function reload() {
  const yes = await confirmed({
    title: 'Reload the configuration?',
    body: [
      el(
        'p',
        {},
        'The gateway reads its file again. A broken one changes nothing, and the events tell what is wrong with it.',
      ),
    ],
    action: 'Reload',
  });
  if (!yes) return;
  try {
    await post('reload');
    toast('The file is being read. The events tell how it went.');
  } catch (error) {
    toast(error.message, 'bad');
  }
}

$('rules-search').addEventListener('input', show);
$('reload').addEventListener('click', reload);
