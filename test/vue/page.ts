/** A page with Vue in it, over a real server and a real broker, and what that server saw. */
import path from 'node:path';
import type { BrokerOptions } from '../../src/index.js';
import { type BindingPage, openBindingPage } from '../support/binding-page.js';
import { bundle } from '../support/bundle.js';
import { root } from '../support/package.js';

let script: Promise<string> | undefined;

/** Runs a scenario of page.mjs. */
export async function runScenario(
  scenario: string,
  options: object = {},
  brokerOptions: BrokerOptions = {},
): Promise<BindingPage> {
  // What a bundler's plugin defines; without it Vue complains.
  script ??= bundle(
    `Object.assign(globalThis, {
       __VUE_OPTIONS_API__: true,
       __VUE_PROD_DEVTOOLS__: false,
       __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: true,
     });
     require(${JSON.stringify(path.join(root, 'test/vue/page.mjs'))});`,
  );
  return openBindingPage(await script, scenario, options, brokerOptions);
}
