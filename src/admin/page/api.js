// The admin API, as the rest of the page speaks to it.

import { learnClock } from './words.js';

const ROOT = '/api/v1/';
const PATIENCE_MS = 15_000;

/** Who is logged in. `role` is `admin` or `viewer`; empty while nobody is. */
export const session = { name: '', role: '', needsLogin: true, masked: true, csrf: '' };

/** Whether the page offers what changes something. The API decides by itself. */
export const mayWrite = () => session.role === 'admin';

/** An answer that is none. `status` is 0 if the gateway could not be reached. */
class ApiError extends Error {
  constructor(status, detail, retryAfter) {
    super(detail);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** The address of an API call, with the parameters that are not empty. An array gives its name several times. */
export function address(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of [value].flat()) if (one !== '' && one !== null && one !== undefined) query.append(name, one);
  }
  return query.size ? `${ROOT}${path}?${query}` : ROOT + path;
}

export const get = (path, parameters) => call('GET', address(path, parameters));
export const post = (path, body) => call('POST', address(path), body ?? {});
export const remove = (path, parameters) => call('DELETE', address(path, parameters), {});

/** Takes up a session that the browser has a cookie of. False if somebody has to log in. */
export async function resume() {
  try {
    remember(await get('session'));
    return true;
  } catch (error) {
    if (error.status === 401) return false;
    throw error;
  }
}

export async function logIn(token) {
  remember(await post('session', { token }));
}

export async function logOut() {
  await remove('session');
  forget();
}

function remember(told) {
  session.name = told.name;
  session.role = told.role;
  session.csrf = told.csrf ?? '';
  session.needsLogin = Boolean(told.needs_login);
  session.masked = told.identifiers !== 'full';
}

function forget() {
  session.role = '';
  session.csrf = '';
}

async function call(method, url, body) {
  const headers = { accept: 'application/json' };
  if (body) headers['content-type'] = 'application/json';
  if (body && session.csrf) headers['x-csrf-token'] = session.csrf;
  const request = { method, headers, credentials: 'same-origin', signal: AbortSignal.timeout(PATIENCE_MS) };
  if (body) request.body = JSON.stringify(body);
  let response;
  try {
    response = await fetch(url, request);
  } catch {
    throw new ApiError(0, 'The gateway cannot be reached.');
  }
  learnClock(response.headers.get('date'));
  return answer(response, url);
}

async function answer(response, url) {
  const text = await response.text();
  let told = null;
  try {
    told = text ? JSON.parse(text) : null;
  } catch {
    if (response.ok) throw new ApiError(response.status, 'The gateway answered with something that is not JSON.');
  }
  if (response.ok) return told;
  if (response.status === 401 && session.role && !url.endsWith('/session')) {
    forget();
    document.dispatchEvent(new Event('signed-out'));
  }
  const detail = typeof told?.detail === 'string' ? told.detail : `The gateway answered ${response.status}.`;
  throw new ApiError(response.status, detail, Number(response.headers.get('retry-after')) || 0);
}
