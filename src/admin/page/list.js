// A table that the API pages, filters and sorts.

import { announce, arrange, el, say } from './dom.js';
import { get } from './api.js';
import { count } from './words.js';

const SIZES = ['25', '50', '100'];
// Under attack there is news all the time: the table is asked for no more often than this.
const REFRESH_EVERY_MS = 1500;
const TYPING_MS = 250;

/**
 * Runs the table in `panel`, which holds `.filters`, `tbody`, `.empty` and `.pager`.
 * - `path`: what is asked; `query()`: its parameters, from the filters
 * - `row(item)`: a `tr`
 * - `none(filtered)`: `{ title, text }` for an empty table
 * - `total()`: how many there are without filters, if that is known
 * - `changed()`: called when filters changed
 */
export function makeList({ panel, path, query, row, none, total, changed }) {
  const parts = {
    body: panel.querySelector('tbody'),
    empty: panel.querySelector('.empty'),
    scroll: panel.querySelector('.scroll'),
  };
  const form = panel.querySelector('.filters');
  const pager = makePager(panel.querySelector('.pager'));
  // The cursors of the pages before this one, and of this one: none at the first.
  let cursors = [null];
  let next = null;
  let asked = 0;
  let rows = new Map();
  let due = null;

  async function load() {
    const turn = ++asked;
    clearTimeout(due);
    due = null;
    panel.setAttribute('aria-busy', 'true');
    try {
      const page = await get(path, { ...query(), limit: pager.size.value, cursor: cursors.at(-1) });
      if (turn !== asked) return;
      next = page.next;
      show(page.items);
    } catch (error) {
      // A cursor does not outlive a change of what it points into.
      if (turn === asked && error.status === 400 && cursors.length > 1) return first();
      if (turn === asked) fail(error);
    } finally {
      if (turn === asked) panel.removeAttribute('aria-busy');
    }
  }

  function show(items) {
    const fresh = new Map();
    for (const item of items) {
      // Rows that say the same are kept: the place of focus, and who is just being copied.
      const said = JSON.stringify(item);
      const known = rows.get(item.id);
      fresh.set(item.id, known?.said === said ? known : { said, element: row(item) });
    }
    const isFirstLook = rows.size === 0;
    for (const [id, { element }] of fresh)
      element.classList.toggle('fresh', !isFirstLook && cursors.length === 1 && !rows.has(id));
    rows = fresh;
    arrange(
      parts.body,
      [...fresh.values()].map(({ element }) => element),
    );
    parts.scroll.hidden = items.length === 0;
    parts.empty.hidden = items.length > 0;
    if (items.length === 0) parts.empty.replaceChildren(...message(none(isFiltered())));
    const before = (cursors.length - 1) * Number(pager.size.value);
    pager.show(items.length, before, next !== null && next !== undefined, isFiltered() ? null : total?.());
  }

  function fail(error) {
    // What was read before is worth more than none; the page says that the gateway is away.
    if (error.status === 0 && rows.size > 0) return;
    rows = new Map();
    parts.body.replaceChildren();
    parts.scroll.hidden = true;
    parts.empty.hidden = false;
    const again = el('button', { type: 'button', onclick: () => load() }, 'Try again');
    parts.empty.replaceChildren(...message({ title: 'This could not be read', text: error.message }), again);
    pager.hide();
  }

  /** Back to the newest page. */
  function first() {
    if (cursors.length > 1) rows = new Map();
    cursors = [null];
    return load();
  }

  const isFiltered = () =>
    Object.entries(query()).some(([name, value]) => name !== 'sort' && value && [value].flat().length > 0);

  /** There is news: the first page shows it soon, others stand still to be read. */
  function refreshSoon() {
    if (cursors.length > 1 || due !== null || panel.closest('[hidden]')) return;
    due = setTimeout(load, REFRESH_EVERY_MS);
  }

  let typing = null;
  const filtersChanged = () => {
    clearTimeout(typing);
    changed?.();
    rows = new Map();
    first().then(() => announce(pager.text()));
  };
  form.addEventListener('input', () => {
    clearTimeout(typing);
    typing = setTimeout(filtersChanged, TYPING_MS);
  });
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    filtersChanged();
  });
  // The fields are empty only after the event.
  form.addEventListener('reset', () => setTimeout(filtersChanged));
  pager.size.addEventListener('change', first);
  pager.older.addEventListener('click', () => {
    cursors.push(next);
    rows = new Map();
    load();
  });
  pager.newer.addEventListener('click', () => {
    cursors.pop();
    rows = new Map();
    load();
  });

  /** Shows them all anew, as after a change of the time zone. */
  function redraw() {
    rows = new Map();
    return load();
  }

  return { load, first, refreshSoon, redraw, isFiltered };
}

function message({ title, text }) {
  return [el('p', { class: 'title' }, title), el('p', {}, text)];
}

function makePager(footer) {
  const where = el('span', { class: 'where', role: 'status' });
  const size = el(
    'select',
    { 'aria-label': 'Rows a page' },
    ...SIZES.map((value) => el('option', { value }, `${value} a page`)),
  );
  const newer = el('button', { type: 'button' }, 'Previous');
  const older = el('button', { type: 'button' }, 'Next');
  footer.append(where, size, newer, older);
  return {
    size,
    newer,
    older,
    text: () => where.textContent,
    show(length, before, hasMore, all) {
      footer.classList.toggle('idle', length === 0 && before === 0);
      newer.disabled = before === 0;
      older.disabled = !hasMore;
      const end = before + length;
      const known = hasMore ? all : end;
      const of = known !== null && known !== undefined && known >= end ? ` of ${count(known)}` : '';
      say(where, length === 0 ? 'None' : `${count(before + 1)}–${count(end)}${of}`);
    },
    hide() {
      footer.classList.add('idle');
      say(where, '');
    },
  };
}
