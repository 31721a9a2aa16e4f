/** The chart for the README: one group of bars per scenario, each bar a server's ratio to `raw`. No library, no script. */
import { headlineOf, ratio } from './statistics.mjs';

const WIDTH = 860;
const LABEL = 130;
const BAR = 16;
const GAP = 5;
const GROUP_GAP = 30;
const MAX_RATIO = 4; // longer bars are cut, with their figure beside them
const COLORS = { ours: '#2563eb', reference: '#94a3b8', peer: '#d6a35c' };
const REFERENCES = new Set(['raw', 'raw-socket']);

/**
 * @param {{ scenario: import('./scenarios.mjs').Scenario, rounds: Record<string, any>[] }[]} results
 * @param {string[]} servers
 * @param {string} caption
 */
export function chart(results, servers, caption) {
  const scale = (WIDTH - LABEL - 90) / MAX_RATIO;
  const parts = [];
  let y = 64;
  for (const { scenario, rounds } of results) {
    const bars = servers
      .map((name) => ({ name, value: ratio(rounds, name, 'raw', headlineOf(scenario)) }))
      .filter(({ value }) => Number.isFinite(value));
    if (bars.length === 0) continue;
    const unit = { publish: 'CPU per delivery', memory: 'memory per connection', connect: 'CPU per visit' };
    parts.push(
      `<text x="10" y="${y}" class="title">${escapeXml(scenario.title)}</text>`,
      `<text x="${WIDTH - 10}" y="${y}" text-anchor="end">${unit[scenario.measure]}</text>`,
    );
    y += 10;
    const top = y;
    for (const { name, value } of bars) {
      const width = Math.max(1, Math.min(value, MAX_RATIO) * scale);
      const color = name.startsWith('ours') ? COLORS.ours : REFERENCES.has(name) ? COLORS.reference : COLORS.peer;
      parts.push(
        `<text x="${LABEL - 8}" y="${y + 12}" text-anchor="end">${escapeXml(name)}</text>`,
        `<rect x="${LABEL}" y="${y}" width="${width.toFixed(1)}" height="${BAR}" fill="${color}" rx="2"/>`,
        `<text x="${(LABEL + width + 6).toFixed(1)}" y="${y + 12}">${value.toFixed(2)}${value > MAX_RATIO ? ' →' : ''}</text>`,
      );
      y += BAR + GAP;
    }
    const one = (LABEL + scale).toFixed(1);
    parts.push(`<line x1="${one}" x2="${one}" y1="${top - 2}" y2="${y}" stroke="#475569" stroke-dasharray="3 3"/>`);
    y += GROUP_GAP;
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y}" viewBox="0 0 ${WIDTH} ${y}" font-family="system-ui, sans-serif" font-size="12" fill="#334155">
<style>.title{font-weight:600;font-size:13px}</style>
<rect width="100%" height="100%" fill="#fff"/>
<text x="10" y="24" font-size="15" font-weight="600">Cost as a multiple of a hand-written res.write loop (dashed line); shorter is better</text>
<text x="10" y="42">${escapeXml(caption)}</text>
${parts.join('\n')}
</svg>
`;
}

/** @param {string} text */
function escapeXml(text) {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
