/** The chart for the README: one group of bars per scenario, each bar a server's ratio to `raw`. No library, no script. */
import { headlineOf, ratio } from './statistics.mjs';

const COLUMNS = 2;
const COLUMN = 450;
const PADDING = 10;
const LABEL = 95;
const BAR = 16;
const GAP = 5;
const GROUP_GAP = 30;
const TOP = 70;
const HEAD = 24;
const MAX_RATIO = 4; // longer bars are cut, with their figure beside them
const SCALE = (COLUMN - LABEL - 70) / MAX_RATIO;
const COLORS = { ours: '#2563eb', reference: '#94a3b8', peer: '#d6a35c' };
const REFERENCES = new Set(['raw', 'raw-socket']);
const UNITS = { publish: 'CPU per delivery', memory: 'memory per connection', connect: 'CPU per visit' };

/**
 * @param {{ scenario: import('./scenarios.mjs').Scenario, rounds: Record<string, any>[] }[]} results
 * @param {string[]} servers
 * @param {string} caption
 */
export function chart(results, servers, caption) {
  const groups = results
    .map(({ scenario, rounds }) => ({
      scenario,
      bars: servers
        .map((name) => ({ name, value: ratio(rounds, name, 'raw', headlineOf(scenario)) }))
        .filter(({ value }) => Number.isFinite(value)),
    }))
    .filter(({ bars }) => bars.length > 0);
  const parts = [];
  let bottom = TOP;
  for (let i = 0; i < groups.length; i += COLUMNS) {
    const row = groups.slice(i, i + COLUMNS);
    for (const [column, group] of row.entries()) parts.push(...drawn(group, column * COLUMN, bottom));
    bottom += HEAD + Math.max(...row.map(({ bars }) => bars.length)) * (BAR + GAP) + GROUP_GAP;
  }
  const width = COLUMNS * COLUMN;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${bottom}" viewBox="0 0 ${width} ${bottom}" font-family="system-ui, sans-serif" font-size="12" fill="#334155">
<title>Cost beside a hand-written loop</title>
<style>.title{font-weight:600;font-size:13px}</style>
<rect width="100%" height="100%" fill="#fff"/>
<text x="${PADDING}" y="24" font-size="15" font-weight="600">Cost as a multiple of a hand-written res.write loop (dashed line); shorter is better</text>
<text x="${PADDING}" y="42">${escapeXml(caption)}</text>
${parts.join('\n')}
</svg>
`;
}

/**
 * @param {{ scenario: import('./scenarios.mjs').Scenario, bars: { name: string, value: number }[] }} group
 * @param {number} left
 * @param {number} top
 */
function drawn({ scenario, bars }, left, top) {
  const start = left + LABEL;
  const parts = [
    `<text x="${left + PADDING}" y="${top}" class="title">${escapeXml(scenario.title)}</text>`,
    `<text x="${left + PADDING}" y="${top + 15}">${UNITS[scenario.measure]}</text>`,
  ];
  let y = top + HEAD;
  for (const { name, value } of bars) {
    const width = Math.max(1, Math.min(value, MAX_RATIO) * SCALE);
    const color = name.startsWith('ours') ? COLORS.ours : REFERENCES.has(name) ? COLORS.reference : COLORS.peer;
    parts.push(
      `<text x="${start - 8}" y="${y + 12}" text-anchor="end">${escapeXml(name)}</text>`,
      `<rect x="${start}" y="${y}" width="${width.toFixed(1)}" height="${BAR}" fill="${color}" rx="2"/>`,
      `<text x="${(start + width + 6).toFixed(1)}" y="${y + 12}">${value.toFixed(2)}${value > MAX_RATIO ? ' →' : ''}</text>`,
    );
    y += BAR + GAP;
  }
  const one = (start + SCALE).toFixed(1);
  parts.push(
    `<line x1="${one}" x2="${one}" y1="${top + HEAD - 2}" y2="${y}" stroke="#475569" stroke-dasharray="3 3"/>`,
  );
  return parts;
}

/** @param {string} text */
function escapeXml(text) {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
