// Numbers, times and reasons as people say them.

import { el, memory, say } from './dom.js';

const counting = new Intl.NumberFormat('en');
const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** `12,345`. */
export const count = (number) => counting.format(number ?? 0);

/** `1 block`, `2 blocks`. */
export const counted = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** `0`, `0.4`, `12`, `1,204`: a rate with as many digits as matter. */
export function rate(perSecond) {
  if (perSecond > 0 && perSecond < 0.05) return '<0.1';
  return perSecond < 10 ? String(Math.round(perSecond * 10) / 10) : count(Math.round(perSecond));
}

/** `1,204.50`, `0.0075`: an amount that is given in millionths. Of little, parts of a cent count. */
export function money(micros) {
  const digits = { minimumFractionDigits: 2, maximumFractionDigits: micros < 1e6 ? 4 : 2 };
  return new Intl.NumberFormat('en', digits).format(micros / 1e6);
}

/** `38 s`, `4 min 12 s`, `1 h 5 min`, `2 d 3 h`. */
export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  const two = (big, bigUnit, small, smallUnit) =>
    small ? `${big} ${bigUnit} ${small} ${smallUnit}` : `${big} ${bigUnit}`;
  if (s < MINUTE) return `${s} s`;
  if (s < HOUR) return two(Math.floor(s / MINUTE), 'min', s % MINUTE, 's');
  if (s < DAY) return two(Math.floor(s / HOUR), 'h', Math.floor((s % HOUR) / MINUTE), 'min');
  return two(Math.floor(s / DAY), 'd', Math.floor((s % DAY) / HOUR), 'h');
}

// The gateway's clock less this one's, ms: countdowns go by the clock that ends the blocks.
let ahead = 0;

/** Learns the gateway's clock from an answer's `Date`, which is whole seconds: less than two are no difference. */
export function learnClock(date) {
  const difference = Date.parse(date) - Date.now();
  if (Number.isFinite(difference)) ahead = Math.abs(difference) > 2000 ? difference : 0;
}

/** The gateway's time, ms. */
export const now = () => Date.now() + ahead;

/** `UTC`, or undefined for the browser's own zone. */
let zone = memory.get('zone') === 'UTC' ? 'UTC' : undefined;

export const isUtc = () => zone === 'UTC';

/** Changes between UTC and the browser's zone. */
export function switchZone() {
  zone = isUtc() ? undefined : 'UTC';
  memory.set('zone', zone ?? '');
}

const format = (options, at) => new Intl.DateTimeFormat('en-GB', { timeZone: zone, ...options }).format(at);

/** `03:12`. */
export const hourMinute = (at) => format({ hour: '2-digit', minute: '2-digit' }, new Date(at));

/** `26 Nov`. */
export const day = (at) => format({ day: 'numeric', month: 'short' }, new Date(at));

/** `03:12:05`, and with the day if that is another. */
export function clock(at) {
  const time = format({ hour: '2-digit', minute: '2-digit', second: '2-digit' }, new Date(at));
  return day(at) === day(now()) ? time : `${day(at)}, ${time}`;
}

/** A time, with all of it in both zones on pointing. */
export function time(at) {
  if (!at) return el('span', {}, '–');
  const own = new Date(at).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'long' });
  return el('time', { datetime: at, title: `${own}\n${at}` }, clock(at));
}

/** Time that is left, kept up to date by [`tick`]. */
export function countdown(until) {
  return el('time', { class: 'countdown', datetime: until, 'data-until': until }, left(until));
}

function left(until) {
  const seconds = Math.ceil((Date.parse(until) - now()) / 1000);
  return seconds > 0 ? `in ${span(seconds)}` : 'free now';
}

/** Lets all countdowns go on. */
export function tick() {
  for (const element of document.querySelectorAll('[data-until]')) say(element, left(element.dataset.until));
}

/** `address` → `Address`. */
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** What each kind of event is called, and the tone it is shown in. */
export const KINDS = {
  limited: { word: 'Refused', tone: 'warm' },
  backoff: { word: 'Must wait', tone: 'warm' },
  failure: { word: 'Failed attempt', tone: 'plain' },
  blocked: { word: 'Blocked', tone: 'hot' },
  unblocked: { word: 'Unblocked', tone: 'good' },
  rejected: { word: 'Value rejected', tone: 'warm' },
  denied: { word: 'On the deny list', tone: 'warm' },
  suspicion: { word: 'Suspicious', tone: 'hot' },
  reload: { word: 'Rules reloaded', tone: 'plain' },
  reload_failed: { word: 'Reload failed', tone: 'hot' },
  store_up: { word: 'Store back', tone: 'good' },
  store_down: { word: 'Store away', tone: 'hot' },
  admin: { word: 'By an admin', tone: 'plain' },
  code_sent: { word: 'Code sent', tone: 'plain' },
  code_undelivered: { word: 'Code not sent', tone: 'warm' },
  code_verified: { word: 'Code verified', tone: 'good' },
  fraud: { word: 'Fraud suspected', tone: 'hot' },
  provider_down: { word: 'Provider away', tone: 'hot' },
  provider_up: { word: 'Provider back', tone: 'good' },
};

/** A kind in words; one that is newer than this page by its own name. */
export const kindOf = (kind) => KINDS[kind] ?? { word: String(kind), tone: 'plain' };

/** `ip` → `address`; `body.username+ip` → `username + address`. */
export function keyWords(key) {
  const part = (name) => {
    if (name === 'ip') return 'address';
    if (name.startsWith('body.')) return name.slice('body.'.length);
    return name.replace('.', ' ');
  };
  return String(key ?? '')
    .split('+')
    .map(part)
    .join(' + ');
}

/** Why somebody is blocked: `5 failed attempts on login`. */
export function why(block) {
  const where = block.route ? ` on ${block.route}` : '';
  switch (block.reason) {
    case 'failures':
      return block.attempts
        ? `${counted(block.attempts, 'failed attempt')}${where}`
        : `Too many failed attempts${where}`;
    case 'limit':
      return `Went past a limit${where}`;
    case 'suspicion':
      return 'Suspicious over all routes';
    case 'operator':
      return block.by ? `By hand, by ${block.by}` : 'By hand';
    default:
      return String(block.reason);
  }
}

/** How a code gets to its owner. */
export const CHANNELS = { sms: 'text message', voice: 'voice', whatsapp: 'WhatsApp', email: 'e-mail' };

/** What a provider said instead of taking a message. */
export const FAULTS = {
  recipient: 'Nobody reaches this number',
  opted_out: 'The recipient wants no messages',
  route: 'Does not reach this country or carrier',
  provider: 'Refuses our account',
  throttled: 'Too many at once',
  transient: 'Had trouble',
  ambiguous: 'Nobody knows whether it was sent',
  request: 'Says that it is no message',
  fraud: 'Suspects fraud',
};

const STANDINGS = {
  up: { word: 'Takes messages', tone: 'good' },
  down: { word: 'Fails', tone: 'hot' },
  refusing: { word: 'Refuses our account', tone: 'hot' },
  trying: { word: 'Tried again', tone: 'warm', text: 'the next message tells whether it works' },
  cooling: { word: 'Had too much at once', tone: 'warm' },
  full: { word: 'Over its limits', tone: 'warm', text: 'it had as many messages as the configuration says' },
  spent_out: { word: 'Daily maximum spent', tone: 'hot' },
};

const DOUBTS = {
  conversion: 'asked last: its codes come back less often than those of the others',
  receipts: 'asked last: most of its messages do not arrive',
};

/** How a provider is: a word, its tone, and what more there is to say, if anything. */
export function standing({ state, until, doubt }) {
  const { word, tone, text } = STANDINGS[state] ?? { word: state, tone: 'plain' };
  const said = until ? ['left alone until ', time(until)] : [text ?? DOUBTS[doubt]].filter(Boolean);
  const isDoubted = state === 'up' && doubt;
  return {
    word: isDoubted ? 'In doubt' : word,
    tone: isDoubted ? 'warm' : tone,
    text: said.length ? said : null,
  };
}
