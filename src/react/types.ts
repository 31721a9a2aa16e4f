/** The public words of `sse-broker/react`. */
import type { FunctionComponent, HTMLAttributes, ReactNode } from 'react';
import type { SSEClient } from '../client/client.js';
import type { FittingClient } from '../client/fitting-client.js';
import type {
  SSEClientConfig,
  SSEDataOf,
  SSEEvent,
  SSEEventMap,
  SSEEventName,
  SSEGap,
  SSEHandler,
  SSEStatus,
  SSEStatusInfo,
} from '../client/types.js';

export type { FittingClient };

/**
 * Calls `handler` with each event of type `event`, from the commit that mounts the component to the one that unmounts it.
 *
 * The handler may be written inline: it is always the one of the newest render that is called, and a new one neither
 * reconnects nor subscribes anew. It is called for every event, also where the data is the same as before. What it throws
 * or rejects with becomes an `error` event of the client.
 *
 * With an event map `data` has the type of the event; without one it has the type that the handler gives its parameter.
 */
export type UseSSE<Events extends object> = string extends keyof Events
  ? <Data = unknown>(event: string, handler: (data: Data, event: SSEEvent<Data>) => unknown) => void
  : <Type extends SSEEventName<Events>>(event: Type, handler: SSEHandler<Events, Type>) => void;

/**
 * The data of the newest event of type `event`; `initial` until one comes, and again where `event` or the client changes.
 *
 * Each event renders the component anew, also where its data equals what was there before. Several events between two
 * renders make one render; `reduce` sees each of them, so it is for collecting: it makes the next value of the present one
 * and the event's data, and must be pure (StrictMode calls it twice).
 */
export type UseSSEData<Events extends object> = string extends keyof Events
  ? {
      <Data>(event: string, initial: Data): Data;
      <Data>(event: string): Data | undefined;
      <Value, Data>(event: string, initial: Value, reduce: (value: Value, data: Data) => Value): Value;
    }
  : {
      <Type extends SSEEventName<Events>, Initial = SSEDataOf<Events, Type>>(
        event: Type,
        initial: Initial,
      ): SSEDataOf<Events, Type> | Initial;
      <Type extends SSEEventName<Events>>(event: Type): SSEDataOf<Events, Type> | undefined;
      <Type extends SSEEventName<Events>, Value>(
        event: Type,
        initial: Value,
        reduce: (value: Value, data: SSEDataOf<Events, Type>) => Value,
      ): Value;
    };

/** A provider that is given a client: the application made it, connects it and ends it. */
export interface GivenClientProps<Events extends object = SSEEventMap> {
  readonly client: FittingClient<Events>;
  readonly url?: undefined;
  readonly config?: undefined;
  readonly children?: ReactNode;
}

/** A provider that makes its own client, connects it when it is mounted, and destroys it when it is unmounted. */
export interface OwnClientProps {
  readonly client?: undefined;
  /**
   * Where the stream is. null: nowhere for now, so the stream is closed; with the next address it goes on from the last id.
   * Left out where `config` has `urls`.
   */
  readonly url?: SSEClientConfig['url'] | null;
  /**
   * Settings of the client. They are compared by content, functions by their presence, so an object and functions that are
   * made anew in each render cost no reconnect; the newest function is the one that is called. A change reconnects once, with
   * the last id.
   */
  readonly config?: Omit<SSEClientConfig, 'url'> | undefined;
  readonly children?: ReactNode;
}

/** Props of `SSEProvider`: a `client`, or `url` and `config`. Going from one kind to the other mounts the children anew. */
export type SSEProviderProps<Events extends object = SSEEventMap> = GivenClientProps<Events> | OwnClientProps;

/** Props of `ConnectionStatus`; all that a `<span>` takes is passed on. */
export interface ConnectionStatusProps extends Omit<HTMLAttributes<HTMLSpanElement>, 'children'> {
  /** What is shown for a status; its name by default. */
  readonly labels?: Partial<Readonly<Record<SSEStatus, ReactNode>>> | undefined;
  /** Makes what is shown, instead of `labels`. */
  readonly children?: ((info: SSEStatusInfo) => ReactNode) | undefined;
}

/** What {@link createSSEContext} gives: a provider, and the hooks that find the client of the nearest one above. */
export interface SSEContext<Events extends object = SSEEventMap> {
  readonly SSEProvider: FunctionComponent<SSEProviderProps<Events>>;
  readonly useSSE: UseSSE<Events>;
  readonly useSSEData: UseSSEData<Events>;
  /**
   * What `getStatus()` of the client gives; renders anew with each `status` event. On the server and while hydrating it is what a
   * client says that never connected (`disconnected`), so the markup of both is the same.
   */
  readonly useSSEStatus: () => SSEStatusInfo;
  /**
   * Calls `handler` where history has a gap: what the component shows may be out of date. `gap.refetch(load)` holds events
   * back while a snapshot is fetched. The handler may be written inline, as with {@link UseSSE}.
   */
  readonly useSSEGap: (handler: (gap: SSEGap) => unknown) => void;
  /**
   * The client, for all that has no hook: `getStats()`, `pause()`, `reconnect()`, `on('message', …)`.
   *
   * @throws {SSEClientError} `SSE_CLIENT_OPTION` where no provider of this context is above; so do the other hooks.
   */
  readonly useSSEClient: () => SSEClient<Events>;
  /**
   * `<span role="status" data-status="connected">connected</span>`, with the present status. `role="status"` has screen
   * readers say a change when they are idle.
   */
  readonly ConnectionStatus: FunctionComponent<ConnectionStatusProps>;
}
