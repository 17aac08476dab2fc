// What happens, as the gateway tells it; asked for instead while the stream is cut off.

const ADDRESS = '/api/v1/stream';
// The gateway tells its numbers every other second: after this long without, the line is dead.
const SILENCE_MS = 9_000;
const ASK_EVERY_MS = 5_000;
const WAITS_MS = [1_000, 2_000, 5_000, 10_000, 20_000];

/**
 * Follows the stream for as long as the page is open.
 * - `heard(kind, data)`: an `event`, `block`, `unblock` or `stats`
 * - `ask()`: reads what the page shows; rejects if the gateway is away
 * - `changed(state)`: `live`, `polling` (no stream, but answers) or `away`
 */
export function follow({ heard, ask, changed }) {
  let source = null;
  let state = '';
  let heardAt = 0;
  let tries = 0;
  let retry = null;

  function become(wanted) {
    if (state === wanted) return;
    state = wanted;
    changed(wanted);
  }

  function open() {
    source = new EventSource(ADDRESS);
    heardAt = Date.now();
    source.onopen = () => {
      heardAt = Date.now();
    };
    source.onerror = lost;
    for (const kind of ['stats', 'event', 'block', 'unblock']) {
      source.addEventListener(kind, ({ data }) => {
        const wasCut = state !== 'live';
        heardAt = Date.now();
        tries = 0;
        become('live');
        heard(kind, JSON.parse(data));
        // What happened meanwhile was not told.
        if (wasCut) ask().catch(() => {});
      });
    }
  }

  // The browser tries again by itself, but for ever at the same pace, and not at all after an answer that is no stream.
  function lost() {
    source.close();
    clearTimeout(retry);
    retry = setTimeout(open, WAITS_MS[Math.min(tries, WAITS_MS.length - 1)]);
    tries += 1;
    poll();
  }

  async function poll() {
    try {
      await ask();
      if (state !== 'live' || source.readyState === EventSource.CLOSED) become('polling');
    } catch (error) {
      // An error that it answers with is told where it happens.
      become(error.status ? 'polling' : 'away');
    }
  }

  setInterval(() => {
    if (source.readyState !== EventSource.CLOSED && Date.now() - heardAt > SILENCE_MS) lost();
    else if (state !== 'live') poll();
  }, ASK_EVERY_MS);
  open();
}
