/** The process' figures, each with its last minute. */
import { byId, element, setText } from './dom.js';
import { bytes, count, wholeSeconds } from './format.js';

const SAMPLES = 60;
const WIDTH = 120;
const HEIGHT = 28;

const METERS = [
  { label: 'CPU', of: (stats) => stats.cpuPercent, show: (value) => `${value} %`, atLeast: 100 },
  { label: 'Event loop', of: (stats) => stats.eventLoopPercent, show: (value) => `${value} %`, atLeast: 100 },
  { label: 'Memory', of: (stats) => stats.rssBytes, show: bytes, atLeast: 0 },
  { label: 'Connections', of: (stats) => stats.connections, show: count, atLeast: 4 },
  { label: 'Jobs running', of: (stats) => stats.jobsRunning, show: count, atLeast: 4 },
];

const SVG = 'http://www.w3.org/2000/svg';

export class FeedView {
  #meters = METERS.map((meter) => {
    const value = element('span', { class: 'value' }, '–');
    const svg = document.createElementNS(SVG, 'svg');
    svg.setAttribute('class', 'spark');
    svg.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute('preserveAspectRatio', 'none');
    svg.setAttribute('aria-hidden', 'true');
    const area = document.createElementNS(SVG, 'path');
    area.setAttribute('class', 'area');
    const line = document.createElementNS(SVG, 'path');
    line.setAttribute('class', 'line');
    svg.append(area, line);
    byId('meters').append(element('li', {}, element('span', { class: 'label' }, meter.label), svg, value));
    return { ...meter, value, area, line, samples: [] };
  });

  update(stats) {
    for (const meter of this.#meters) {
      const sample = meter.of(stats);
      meter.samples.push(sample);
      if (meter.samples.length > SAMPLES) meter.samples.shift();
      setText(meter.value, meter.show(sample));
      this.#draw(meter);
    }
    const { published, delivered, dropped, bytesSent, uptimeSeconds } = stats;
    setText(
      byId('totals'),
      `${count(published)} published · ${count(delivered)} delivered · ${count(dropped)} dropped · ${bytes(bytesSent)} sent · up ${wholeSeconds(uptimeSeconds * 1_000)}`,
    );
  }

  #draw({ samples, atLeast, line, area }) {
    const top = Math.max(atLeast, ...samples) * 1.08;
    const step = WIDTH / (SAMPLES - 1);
    const first = WIDTH - (samples.length - 1) * step;
    const points = samples.map((sample, index) => {
      const x = (first + index * step).toFixed(1);
      return `${x} ${(HEIGHT - 1 - (sample / top) * (HEIGHT - 2)).toFixed(1)}`;
    });
    const path = `M${points.join('L')}`;
    line.setAttribute('d', path);
    area.setAttribute('d', `${path}V${HEIGHT}H${first.toFixed(1)}Z`);
  }
}
