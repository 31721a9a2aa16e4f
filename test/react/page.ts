/** A page with React in it, over a real server and a real broker, and what that server saw. */
import path from 'node:path';
import type { BrokerOptions } from '../../src/index.js';
import { type BindingPage, openBindingPage } from '../support/binding-page.js';
import { bundle } from '../support/bundle.js';
import { root } from '../support/package.js';
import { aliasesOf, type ReactVersion } from './versions.js';

const scripts = new Map<ReactVersion, Promise<string>>();

/** Runs a scenario of page.mjs. */
export async function runScenario(
  version: ReactVersion,
  scenario: string,
  options: object = {},
  brokerOptions: BrokerOptions = {},
): Promise<BindingPage> {
  const alias = await aliasesOf(version);
  // Fast Refresh hooks into React before it is loaded, as the plugins of bundlers have it.
  const script =
    scripts.get(version) ??
    bundle(
      `globalThis.ReactRefresh = require('react-refresh/runtime');
       globalThis.ReactRefresh.injectIntoGlobalHook(globalThis);
       require(${JSON.stringify(path.join(root, 'test/react/page.mjs'))});`,
      { alias },
    );
  scripts.set(version, script);
  return openBindingPage(await script, scenario, options, brokerOptions);
}
