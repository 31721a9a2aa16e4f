/** `sse-broker/vue`: a plugin and composables over `sse-broker/client`, for Vue 3.5. */
import { createSSEContext } from './create-context.js';

const context = createSSEContext();

/** The plugin with its options: `app.use(createSSE({ url, config }))`; see {@link SSEPluginOptions}. */
export const createSSE = context.createSSE;
/** The plugin: `app.use(SSEPlugin, { url, config })`; see {@link SSEPluginOptions}. */
export const SSEPlugin = context.SSEPlugin;
/** Calls a handler with each event of one type; see {@link UseSSE}. */
export const useSSE = context.useSSE;
/** A ref with the data of the newest event of one type; see {@link UseSSEData}. */
export const useSSEData = context.useSSEData;
/** A ref with what `getStatus()` of the client gives; see {@link SSEContext.useSSEStatus}. */
export const useSSEStatus = context.useSSEStatus;
/** Calls a handler where history has a gap; see {@link SSEContext.useSSEGap}. */
export const useSSEGap = context.useSSEGap;
/** The client of the plugin; see {@link SSEContext.useSSEClient}. */
export const useSSEClient = context.useSSEClient;
/** An unstyled indicator of the status; see {@link SSEContext.ConnectionStatus}. */
export const ConnectionStatus = context.ConnectionStatus;

export { createSSEContext } from './create-context.js';
export type {
  ConnectionStatusComponent,
  ConnectionStatusProps,
  FittingClient,
  GivenClientOptions,
  OwnClientOptions,
  SSEContext,
  SSEPluginOptions,
  UseSSE,
  UseSSEData,
} from './types.js';
