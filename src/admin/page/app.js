// The watch room: who is logged in, which part is shown, and what keeps it up to date.

import { $, memory, say, toast } from './dom.js';
import { logIn, logOut, mayWrite, resume, session } from './api.js';
import { clock, isUtc, now, switchZone, tick } from './words.js';
import { follow } from './stream.js';
import * as blocks from './blocks.js';
import * as codes from './codes.js';
import * as events from './events.js';
import * as lookup from './lookup.js';
import * as overview from './overview.js';
import * as rules from './rules.js';

const STATS_EVERY_MS = 15_000;
const LIVE = { live: 'Live', polling: 'Every 5 s', away: 'Cut off' };
const THEMES = ['', 'dark', 'light'];

let following = false;
let statsDue = null;

async function start() {
  try {
    if (await resume()) await enter();
    else showLogin();
  } catch (error) {
    banner(`${error.message} Trying again…`);
    setTimeout(start, 3000);
    return;
  }
  banner('');
}

async function enter() {
  $('login').hidden = true;
  for (const id of ['nav', 'live', 'whoami']) $(id).hidden = false;
  $('logout').hidden = !session.needsLogin;
  say($('whoami'), session.needsLogin ? `${session.name}, ${session.role}` : 'local, no login');
  for (const element of document.querySelectorAll('[data-write]')) element.hidden = !mayWrite();
  $('lookup-clear').hidden = true;
  showView();
  await refreshRules();
  following = true;
  follow({ heard, ask: refresh, changed: connectionChanged });
}

function showLogin() {
  $('login').hidden = false;
  $('token').focus();
}

/** The address says which part is shown: `#events?kind=limited`. */
function showView() {
  const [name, query] = location.hash.slice(1).split('?');
  const views = [...document.querySelectorAll('[data-view]')];
  const view = views.find(({ dataset }) => dataset.view === name) ?? views[0];
  for (const other of views) other.hidden = other !== view;
  for (const link of document.querySelectorAll('nav a')) {
    if (link.hash === `#${view.dataset.view}`) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  document.title = `${view.querySelector('h1').textContent} · Tollgate`;
  if (view.dataset.view === 'events') events.filterBy(new URLSearchParams(query));
  if (view.dataset.view === 'now') blocks.first();
  if (view.dataset.view === 'codes') codes.load();
  if (view.dataset.view === 'events') events.first();
  if (view.dataset.view === 'rules') refreshRules();
}

async function refresh() {
  blocks.setTotal(await overview.load());
  blocks.refreshSoon();
  codes.refreshSoon();
  events.refreshSoon();
}

async function refreshRules() {
  const routes = await rules.load();
  const options = rules.options();
  blocks.offer(options);
  events.offer(options);
  lookup.offer(routes);
}

function heard(kind, data) {
  if (kind === 'stats') {
    overview.heard(data);
    blocks.setTotal(data.active_blocks);
    return;
  }
  if (kind === 'event') events.refreshSoon();
  else blocks.heard(kind, data);
  if (kind === 'event' && codes.concerns(data)) codes.refreshSoon();
  if (kind === 'event' && data.kind === 'reload') refreshRules();
  // Sums over hours: a while after what changes them is soon enough.
  statsDue ??= setTimeout(() => {
    statsDue = null;
    refresh().catch(() => {});
  }, 2_000);
}

function connectionChanged(state) {
  $('live').dataset.state = state;
  say($('live').querySelector('span'), LIVE[state]);
  $('main').classList.toggle('stale', state === 'away');
  banner(
    state === 'away'
      ? `No contact with the gateway since ${clock(now())}. What you see is from then. Trying again…`
      : '',
  );
}

function banner(text) {
  say($('banner'), text);
  $('banner').hidden = !text;
}

function showTheme() {
  const theme = document.documentElement.dataset.theme ?? '';
  const word = { '': 'Auto', dark: 'Dark', light: 'Light' }[theme];
  say($('theme'), word);
  $('theme').setAttribute('aria-label', `Theme: ${word}`);
}

function nextTheme() {
  const root = document.documentElement;
  const theme = THEMES[(THEMES.indexOf(root.dataset.theme ?? '') + 1) % THEMES.length];
  if (theme) root.dataset.theme = theme;
  else delete root.dataset.theme;
  memory.set('theme', theme);
  showTheme();
}

function showZone() {
  const word = isUtc() ? 'UTC' : 'Local time';
  say($('zone'), word);
  $('zone').setAttribute('aria-label', `Times in: ${word}`);
}

$('login-form').addEventListener('submit', async (event) => {
  event.preventDefault();
  const button = event.currentTarget.querySelector('button');
  button.disabled = true;
  say($('login-error'), '');
  try {
    await logIn($('token').value);
    $('token').value = '';
    await enter();
    $('main').focus();
  } catch (error) {
    const wait = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : '';
    say($('login-error'), error.status === 401 ? 'The gateway does not know this token.' : error.message + wait);
  } finally {
    button.disabled = false;
  }
});

$('logout').addEventListener('click', async () => {
  try {
    await logOut();
    location.reload();
  } catch (error) {
    toast(error.message, 'bad');
  }
});

$('skip').addEventListener('click', (event) => {
  // Not by its address, which says what part is shown.
  event.preventDefault();
  $('main').focus();
});
$('theme').addEventListener('click', nextTheme);
$('zone').addEventListener('click', () => {
  switchZone();
  showZone();
  overview.redraw();
  blocks.redraw();
  codes.redraw();
  events.redraw();
});
// Nothing that was seen stays in the page for the next one at this desk.
document.addEventListener('signed-out', () => location.reload());
window.addEventListener('hashchange', () => session.role && showView());
setInterval(tick, 1000);
setInterval(() => following && refresh().catch(() => {}), STATS_EVERY_MS);
showTheme();
showZone();
start();
