/**
 * The page's one event stream: a native EventSource, its state, and the id of the last event.
 *
 * After a loss the browser comes back by itself and sends that id as Last-Event-ID. After a reload, or when it was told
 * to stop, it is a new EventSource that knows no id: then the id kept here goes into the query.
 */

export class Stream {
  /** `connecting`, `open`, `lost` (the browser tries again), `refused` (it does not), `stopped` (by the user). */
  state = 'connecting';
  since = Date.now();
  /** Failed attempts since it was lost. */
  attempts = 0;
  lastEventId = '';
  /** Data of the `connected` event. */
  info = undefined;
  #url;
  #storageKey;
  #names;
  #onState;
  #onEvent;
  #source = undefined;

  constructor({ url, storageKey, names, onState, onEvent }) {
    this.#url = url;
    this.#storageKey = storageKey;
    this.#names = names;
    this.#onState = onState;
    this.#onEvent = onEvent;
    this.lastEventId = sessionStorage.getItem(storageKey) ?? '';
  }

  start() {
    const url = new URL(this.#url, location.href);
    if (this.lastEventId !== '') url.searchParams.set('lastEventId', this.lastEventId);
    const source = new EventSource(url);
    this.#source = source;
    this.attempts = 0;
    this.#become('connecting');
    source.onopen = () => {
      this.attempts = 0;
      this.#become('open');
    };
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) {
        this.#become('refused');
      } else {
        if (this.state === 'lost') this.attempts++;
        this.#become('lost');
      }
    };
    for (const name of this.#names) source.addEventListener(name, (event) => this.#receive(event));
  }

  stop() {
    this.#source?.close();
    this.#become('stopped');
  }

  #receive(event) {
    if (event.lastEventId !== '' && event.lastEventId !== this.lastEventId) {
      this.lastEventId = event.lastEventId;
      sessionStorage.setItem(this.#storageKey, event.lastEventId);
    }
    const data = JSON.parse(event.data);
    if (event.type === 'connected') this.info = data;
    this.#onEvent(event.type, data, event.lastEventId);
  }

  #become(state) {
    if (this.state !== state) this.since = Date.now();
    this.state = state;
    this.#onState(this);
  }
}
