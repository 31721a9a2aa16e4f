/**
 * The jobs: who may start how many, whose they are, and what is published about them.
 *
 *   job.progress                                → the topic job:<id>
 *   job.started, .completed, .failed, .cancelled → the user who started it, in all their tabs
 *
 * Every event carries the whole view of the job and its revision, so a page that was away takes the newest it sees.
 */
import { randomBytes } from 'node:crypto';
import { resolveFolder } from './folders.mjs';
import { hashFolder } from './hash-folder.mjs';
import { Refusal } from './refusal.mjs';

const PROGRESS_INTERVAL = 100;
const MAX_FILES = 200_000;
const MAX_RUNNING = 4;
const MAX_RUNNING_PER_USER = 2;
/** Jobs that are over, kept with their manifests. */
const MAX_FINISHED = 50;
const MAX_FINISHED_PER_USER = 8;

export class Jobs {
  #broker;
  #root;
  #jobs = new Map();
  #isClosing = false;

  constructor({ broker, root }) {
    this.#broker = broker;
    this.#root = root;
  }

  get running() {
    return this.#where((job) => job.view.status === 'running').length;
  }

  /** Starts a job and gives its view; the work goes on in the background. */
  async start(userId, folderName) {
    const folder = await resolveFolder(this.#root, folderName);
    // From here to the registration nothing waits: two requests at once cannot both take the last place.
    this.#admit(userId);
    const id = randomBytes(5).toString('hex');
    const job = {
      userId,
      folder,
      controller: new AbortController(),
      manifest: undefined,
      done: undefined,
      view: {
        folder: folderName,
        status: 'running',
        phase: 'scanning',
        percent: 0,
        files: 0,
        totalFiles: 0,
        bytes: 0,
        totalBytes: 0,
        bytesPerSecond: 0,
        elapsedMs: 0,
        currentFile: '',
        startedAt: Date.now(),
        id,
        topic: `job:${id}`,
        revision: 0,
      },
    };
    this.#jobs.set(id, job);
    for (const client of this.#broker.getClients()) if (client.userId === userId) this.#subscribe(client.id, job);
    this.#tell(job, 'job.started');
    job.done = this.#run(job);
    return job.view;
  }

  /** Ends a running job; the user is told `job.cancelled`. */
  async cancel(userId, id) {
    const job = this.#find(userId, id);
    if (job.view.status !== 'running') throw new Refusal(409, 'NOT_RUNNING', `this job is ${job.view.status}`);
    job.controller.abort(CANCELLED);
    await job.done;
    return job.view;
  }

  /** Views of a user's jobs, oldest first. */
  of(userId) {
    return this.#where((job) => job.userId === userId).map((job) => job.view);
  }

  view(userId, id) {
    return this.#find(userId, id).view;
  }

  /** The hashes, as `sha256sum` prints them. */
  manifest(userId, id) {
    const { manifest, view } = this.#find(userId, id);
    if (manifest === undefined) throw new Refusal(409, 'NO_MANIFEST', `this job is ${view.status}; it has no hashes`);
    return manifest;
  }

  topicsOf(userId) {
    return this.of(userId).map((view) => view.topic);
  }

  /** What `authorizeTopic` asks: a job's topic is for whoever started it, and there are no other topics. */
  mayHaveTopic(userId, topic) {
    const job = topic.startsWith('job:') ? this.#jobs.get(topic.slice('job:'.length)) : undefined;
    return job !== undefined && job.userId === userId;
  }

  /** Gives a stream that has just opened the topics of jobs that were started while it was on its way. */
  attach(client) {
    for (const job of this.#where(({ userId }) => userId === client.userId)) this.#subscribe(client.id, job);
  }

  /** Takes no more, ends what runs and tells its users; resolves when that is done. */
  async close() {
    this.#isClosing = true;
    const running = this.#where((job) => job.view.status === 'running');
    for (const job of running) job.controller.abort(new Error('the server was stopped'));
    await Promise.all(running.map((job) => job.done));
  }

  #admit(userId) {
    if (this.#isClosing) throw new Refusal(503, 'CLOSING', 'the server is stopping', { 'Retry-After': '5' });
    const running = this.#where((job) => job.view.status === 'running');
    const own = running.filter((job) => job.userId === userId).length;
    if (own >= MAX_RUNNING_PER_USER || running.length >= MAX_RUNNING) {
      const whose = own >= MAX_RUNNING_PER_USER ? `you have ${own} jobs running` : `${running.length} jobs are running`;
      throw new Refusal(429, 'TOO_MANY_JOBS', `${whose}; wait for one to end, or cancel one`, { 'Retry-After': '2' });
    }
  }

  async #run(job) {
    const { view, folder, controller } = job;
    const pace = new Pace();
    const onProgress = (progress) => {
      const now = performance.now();
      if (!pace.isDue(now, progress)) return;
      Object.assign(view, progress, { percent: percentOf(progress), bytesPerSecond: pace.bytesPerSecond });
      view.elapsedMs = Date.now() - view.startedAt;
      this.#progress(job);
    };
    try {
      const { manifest, files, bytes, links, unreadable, digest } = await hashFolder(folder, {
        signal: controller.signal,
        maxFiles: MAX_FILES,
        onProgress,
      });
      job.manifest = manifest;
      const elapsedMs = Math.max(1, Date.now() - view.startedAt);
      const bytesPerSecond = Math.round((bytes * 1_000) / elapsedMs);
      // What was really read: files come, go and grow between the listing and the reading.
      const totals = { files, totalFiles: files, bytes, totalBytes: bytes };
      Object.assign(view, totals, { phase: 'done', percent: 100, elapsedMs, bytesPerSecond, currentFile: '' });
      this.#progress(job);
      // Some names will do: a folder full of unreadable files must not make an event of a megabyte.
      const result = { digest, links, unreadable: unreadable.length, firstUnreadable: unreadable.slice(0, 10) };
      this.#finish(job, 'completed', { result });
    } catch (error) {
      view.elapsedMs = Date.now() - view.startedAt;
      if (error === CANCELLED) this.#finish(job, 'cancelled', { reason: error.message });
      else this.#finish(job, 'failed', { reason: error.message });
    }
  }

  #progress({ view }) {
    view.revision++;
    this.#broker.sendToTopic(view.topic, 'job.progress', view);
  }

  #finish(job, status, more) {
    Object.assign(job.view, { status, currentFile: '' }, more);
    this.#tell(job, `job.${status}`);
    this.#forget(job.userId);
  }

  // Data is serialised at the call, so the view may change afterwards; a rejection nobody awaits reaches broker.on('error').
  #tell({ userId, view }, event) {
    view.revision++;
    this.#broker.sendToUser(userId, event, view);
  }

  #subscribe(clientId, job) {
    // It may have left since it was listed.
    this.#broker.subscribe(clientId, job.view.topic).catch(() => {});
  }

  /** Drops the oldest jobs that are over. */
  #forget(userId) {
    const finished = this.#where((job) => job.view.status !== 'running');
    const own = finished.filter((job) => job.userId === userId);
    const surplus = [...own.slice(0, -MAX_FINISHED_PER_USER), ...finished.slice(0, -MAX_FINISHED)];
    for (const { view } of surplus) this.#jobs.delete(view.id);
  }

  #find(userId, id) {
    const job = this.#jobs.get(id);
    // The same answer for a job of somebody else and for one that is not there.
    if (job === undefined || job.userId !== userId) throw new Refusal(404, 'UNKNOWN_JOB', 'you have no such job');
    return job;
  }

  #where(condition) {
    return [...this.#jobs.values()].filter(condition);
  }
}

const CANCELLED = new Error('cancelled by the user');

/** Decides when progress is worth an event, and how fast the work goes. */
class Pace {
  bytesPerSecond = 0;
  #last = { at: Number.NEGATIVE_INFINITY, bytes: 0 };

  isDue(now, { bytes }) {
    const elapsed = now - this.#last.at;
    if (elapsed < PROGRESS_INTERVAL) return false;
    if (Number.isFinite(elapsed)) {
      const current = ((bytes - this.#last.bytes) * 1_000) / elapsed;
      // Smoothed: one large file among small ones would make the figure jump.
      this.bytesPerSecond = Math.round(this.bytesPerSecond === 0 ? current : this.bytesPerSecond * 0.8 + current * 0.2);
    }
    this.#last = { at: now, bytes };
    return true;
  }
}

/** To one decimal, and 100 only when all is done: files may have grown since they were listed. */
function percentOf({ phase, files, totalFiles, bytes, totalBytes }) {
  if (phase === 'scanning') return 0;
  const share = totalBytes > 0 ? bytes / totalBytes : files / Math.max(1, totalFiles);
  return Math.min(99.9, Math.floor(share * 1_000) / 10);
}
