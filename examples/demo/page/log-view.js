/** Everything that came down the stream, newest first. Progress of one job shares a row until something else happens. */
import { byId, element, setText } from './dom.js';
import { time } from './format.js';

const MAX_ROWS = 200;
const REPEATS = new Set(['job.progress', 'process.stats']);
const OF_THE_BROKER = new Set(['connected', 'heartbeat', 'gap', 'closing']);

export class LogView {
  #list = byId('log');
  #showsFeed = byId('log-feed');
  #pause = byId('log-pause');
  /** Rows that the next event of the same kind goes into. */
  #growing = new Map();

  constructor() {
    this.#pause.addEventListener('click', () => {
      const isPaused = this.#pause.getAttribute('aria-pressed') !== 'true';
      this.#pause.setAttribute('aria-pressed', String(isPaused));
      setText(this.#pause, isPaused ? 'Resume' : 'Pause');
    });
    byId('log-clear').addEventListener('click', () => {
      this.#list.replaceChildren();
      this.#growing.clear();
    });
  }

  /** `name` is the event's; a name in brackets is a remark of the page itself. */
  add(name, data, id = '') {
    if (this.#pause.getAttribute('aria-pressed') === 'true') return;
    if (name === 'process.stats' && !this.#showsFeed.checked) return;
    const kind = `${name} ${data.id ?? ''}`;
    let row = this.#growing.get(kind);
    if (row === undefined) {
      row = this.#makeRow(name, data);
      if (REPEATS.has(name)) this.#growing.set(kind, row);
      else this.#growing.clear();
      this.#list.prepend(row.root);
      while (this.#list.children.length > MAX_ROWS) this.#list.lastChild.remove();
    }
    row.repeats++;
    row.latest = data;
    setText(row.at, time(new Date()));
    setText(row.name, row.repeats > 1 ? `${name} ×${row.repeats}` : name);
    setText(row.id, id === '' ? '–' : id);
    setText(row.summary, typeof data === 'string' ? data : JSON.stringify(data));
    if (row.details.open) setText(row.pretty, JSON.stringify(data, null, 2));
  }

  #makeRow(name, data) {
    const row = {
      repeats: 0,
      latest: data,
      at: element('time'),
      name: element('span', { class: 'name' }),
      id: element('span', { class: 'id' }),
      summary: element('span', { class: 'data' }),
      pretty: element('pre', { tabindex: '0' }),
    };
    const audience = element('span', { class: 'for' }, audienceOf(name, data));
    row.details = element(
      'details',
      { toggle: () => setText(row.pretty, JSON.stringify(row.latest, null, 2)) },
      element('summary', { class: 'row' }, row.at, row.name, audience, row.id, row.summary),
      row.pretty,
    );
    row.root = element('li', { 'data-kind': kindOf(name) }, row.details);
    return row;
  }
}

function kindOf(name) {
  if (name.startsWith('(')) return 'remark';
  if (OF_THE_BROKER.has(name)) return name === 'gap' || name === 'closing' ? 'warning' : 'broker';
  if (name === 'job.completed') return 'good';
  if (name === 'job.failed') return 'bad';
  return 'event';
}

function audienceOf(name, data) {
  if (name.startsWith('(')) return 'this page';
  if (OF_THE_BROKER.has(name)) return 'this stream';
  if (name === 'process.stats') return 'everybody';
  return name === 'job.progress' ? data.topic : 'you';
}
