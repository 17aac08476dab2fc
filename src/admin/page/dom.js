// Elements, dialogs and messages. Identifiers come from attackers: text is only ever set as text,
// and nothing in these files parses markup.

export const $ = (id) => document.getElementById(id);

/**
 * Makes an element. Properties that are functions become listeners (`onclick`), `true` an empty attribute,
 * `false`, null and undefined none. Children are elements or text.
 */
export function el(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** The same for a chart. */
export function svg(tag, properties, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (typeof value === 'function') element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// What would turn the text around it, or not be seen: C0, C1, joiners, marks and isolates of direction.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

/** An identifier as people may safely read it: what cannot be seen is spelled out. */
export function visible(text) {
  return String(text).replace(UNSEEN, (c) => `⟨U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}⟩`);
}

/** An identifier in a place of its own, whatever direction it is written in. */
export function who(text) {
  return el('bdi', { class: 'who', title: visible(text) }, visible(text));
}

/** A cell that says on a phone, where there is no head, what it is. */
export function cell(label, properties, ...children) {
  return el('td', { role: 'cell', 'data-label': label, ...properties }, ...children);
}

/**
 * Brings a parent's children to be these, touching only what differs: focus and a marked text in
 * what stays survive.
 */
export function arrange(parent, wanted) {
  const kept = new Set(wanted);
  for (const child of [...parent.children]) if (!kept.has(child)) child.remove();
  wanted.forEach((child, index) => {
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
  });
}

/** Sets a text if it is another, so that nothing is painted or read out again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Tells people who cannot see the page that something changed. */
export const announce = (text) => say($('announce'), text);

/** A message that goes by itself; errors stay longer. */
export function toast(text, kind = 'good') {
  const message = el('p', { class: `toast ${kind}` }, text);
  $('toasts').append(message);
  setTimeout(() => message.remove(), kind === 'bad' ? 10_000 : 5_000);
}

/**
 * Asks before something is done. `word`, if given, must be typed. Esc is a no.
 * @returns {Promise<boolean>}
 */
export function confirmed({ title, body, action, word }) {
  const dialog = $('confirm');
  const label = $('confirm-word');
  const input = label.querySelector('input');
  say($('confirm-title'), title);
  $('confirm-body').replaceChildren(...body);
  say($('confirm-yes'), action);
  label.hidden = !word;
  say(label.querySelector('span'), word ? `Type “${word}” to go on` : '');
  input.value = '';
  input.required = Boolean(word);
  input.pattern = word ?? '.*';
  return ask(dialog);
}

function ask(dialog) {
  dialog.returnValue = 'no';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true });
  });
}

/** Shows all that is known of one thing: pairs of a name and an element or text; empty ones are left out. */
export function details(title, pairs, actions = []) {
  say($('details-title'), title);
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== '');
  $('details-body').replaceChildren(...known.flatMap(([name, value]) => [el('dt', {}, name), el('dd', {}, value)]));
  $('details-actions').replaceChildren(...actions);
  $('details').showModal();
}

/** Puts options behind the first, which stays, and keeps what was chosen. */
export function setOptions(select, values) {
  const chosen = select.value;
  const all = [...new Set(chosen && !values.includes(chosen) ? [...values, chosen] : values)];
  select.replaceChildren(select.options[0], ...all.map((value) => el('option', { value }, value)));
  select.value = chosen;
}

/** What is kept for this browser. Without storage nothing is, which is no error. */
export const memory = {
  get(name) {
    try {
      return localStorage.getItem(`tollgate-${name}`) ?? '';
    } catch {
      return '';
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(`tollgate-${name}`, value);
    } catch {
      // The choice holds until the page is left.
    }
  },
};
