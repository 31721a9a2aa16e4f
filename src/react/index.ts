/**
 * `sse-broker/react`: a provider and hooks over `sse-broker/client`, for React 18 and 19. The directive lets server
 * components import it.
 */
'use client';

import { createSSEContext } from './create-context.js';

const context = createSSEContext();

/** Makes a client available to the components below: one that it is given, or its own; see {@link SSEProviderProps}. */
export const SSEProvider = context.SSEProvider;
/** Calls a handler with each event of one type; see {@link UseSSE}. */
export const useSSE = context.useSSE;
/** The data of the newest event of one type; see {@link UseSSEData}. */
export const useSSEData = context.useSSEData;
/** What `getStatus()` of the client gives, anew with each change; see {@link SSEContext.useSSEStatus}. */
export const useSSEStatus = context.useSSEStatus;
/** Calls a handler where history has a gap; see {@link SSEContext.useSSEGap}. */
export const useSSEGap = context.useSSEGap;
/** The client of the provider above; see {@link SSEContext.useSSEClient}. */
export const useSSEClient = context.useSSEClient;
/** An unstyled indicator of the status; see {@link SSEContext.ConnectionStatus}. */
export const ConnectionStatus = context.ConnectionStatus;

export { createSSEContext } from './create-context.js';
export type {
  ConnectionStatusProps,
  FittingClient,
  GivenClientProps,
  OwnClientProps,
  SSEContext,
  SSEProviderProps,
  UseSSE,
  UseSSEData,
} from './types.js';
