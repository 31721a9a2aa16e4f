/** The user's jobs, one card each; the newest revision of a job wins, whichever way it came. */
import { announce, byId, element, setText } from './dom.js';
import { bytes, count, duration } from './format.js';

const WORDS = { running: 'Running', completed: 'Completed', failed: 'Failed', cancelled: 'Cancelled' };

export class JobsView {
  #list = byId('jobs');
  #cards = new Map();
  #api;
  #user;

  constructor({ api, user }) {
    this.#api = api;
    this.#user = user;
  }

  get topics() {
    return [...this.#cards.values()].filter(({ job }) => job.status === 'running').map(({ job }) => job.topic);
  }

  update(job) {
    let card = this.#cards.get(job.id);
    if (card === undefined) {
      card = this.#makeCard(job);
      this.#cards.set(job.id, card);
      // Newest first, in whatever order they are heard of.
      const older = [...this.#list.children].find(
        (root) => this.#cards.get(root.dataset.job).job.startedAt < job.startedAt,
      );
      this.#list.insertBefore(card.root, older ?? null);
      byId('no-jobs').hidden = true;
    } else if (card.job.revision > job.revision) {
      return;
    }
    if (card.job.status === 'running' && job.status !== 'running') {
      announce(`Job ${job.folder} ${WORDS[job.status].toLowerCase()}`);
    }
    card.job = job;
    this.#render(card);
  }

  /** The server's own list: what is here and not there was lost with a restart. */
  replaceAll(jobs) {
    const known = new Set(jobs.map((job) => job.id));
    for (const { job, outcome } of this.#cards.values()) {
      if (known.has(job.id)) continue;
      outcome.querySelector('a')?.remove();
      if (job.status !== 'running') continue;
      const reason = 'the server no longer knows this job';
      this.update({ ...job, revision: job.revision + 1, status: 'failed', reason });
    }
    for (const job of jobs) this.update(job);
  }

  #makeCard(job) {
    const id = `job-${job.id}`;
    const parts = {
      title: element('h3', { id: `${id}-title` }, job.folder),
      badge: element('span', { class: 'badge' }),
      topic: element('code', { class: 'topic' }, job.topic),
      cancel: element('button', { type: 'button', class: 'quiet', click: () => this.#cancel(job.id) }, 'Cancel'),
      bar: element('progress', { max: '100', 'aria-labelledby': `${id}-title` }),
      percent: element('span', { class: 'percent' }),
      file: element('p', { class: 'file mono' }),
      figures: element('p', { class: 'figures' }),
      outcome: element('p', { class: 'outcome', hidden: true }),
    };
    const root = element(
      'li',
      { class: 'job', 'data-job': job.id },
      element('div', { class: 'heading' }, parts.title, parts.badge, parts.topic, parts.cancel),
      element('div', { class: 'bar' }, parts.bar, parts.percent),
      parts.figures,
      parts.file,
      parts.outcome,
    );
    return { root, job, ...parts };
  }

  #render({ root, job, badge, cancel, bar, percent, file, figures, outcome }) {
    const { status, phase } = job;
    const isRunning = status === 'running';
    root.dataset.status = status;
    setText(badge, isRunning && phase === 'scanning' ? 'Scanning' : WORDS[status]);
    if (!isRunning && document.activeElement === cancel) byId('start-button').focus();
    cancel.hidden = !isRunning;
    bar.value = job.percent;
    setText(percent, `${isRunning ? job.percent.toFixed(1) : Math.floor(job.percent)} %`);
    file.hidden = !isRunning;
    setText(file, job.currentFile || '…');
    const isDone = status === 'completed';
    const facts = [
      isDone ? `${count(job.files)} files` : `${count(job.files)} of ${count(job.totalFiles)} files`,
      isDone ? bytes(job.bytes) : `${bytes(job.bytes)} of ${bytes(job.totalBytes)}`,
      job.bytesPerSecond > 0 ? `${bytes(job.bytesPerSecond)}/s` : undefined,
      duration(job.elapsedMs),
    ];
    setText(figures, facts.filter(Boolean).join(' · '));
    if (isRunning) return;
    outcome.hidden = false;
    if (isDone) this.#renderResult(outcome, job);
    else setText(outcome, job.reason);
  }

  #renderResult(outcome, { id, result }) {
    const skipped = [
      result.links > 0 ? `${count(result.links)} links not followed` : undefined,
      result.unreadable > 0 ? `${count(result.unreadable)} files unreadable` : undefined,
    ].filter(Boolean);
    outcome.replaceChildren(
      element('span', { class: 'digest mono', title: 'SHA-256 of the list of hashes' }, result.digest),
      element(
        'a',
        { href: `/jobs/${id}/sha256sums?user_id=${encodeURIComponent(this.#user)}`, target: '_blank' },
        'All hashes',
      ),
      ...(skipped.length > 0 ? [element('span', {}, skipped.join(', '))] : []),
    );
  }

  async #cancel(id) {
    try {
      await this.#api('DELETE', `/jobs/${id}`);
    } catch (error) {
      announce(error.message);
    }
  }
}
