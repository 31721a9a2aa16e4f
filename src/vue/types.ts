/** The public words of `sse-broker/vue`. */
import type {
  AllowedComponentProps,
  ComponentCustomProps,
  MaybeRefOrGetter,
  Plugin,
  ShallowRef,
  VNode,
  VNodeProps,
} from 'vue';
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
 * Calls `handler` with each event of type `event`, until the component or effect scope ends, or the stop function that is
 * returned is called. `event` may be a ref or a getter: another name subscribes anew. It is called for every event, also where
 * the data is the same as before. What it throws or rejects with becomes an `error` event of the client.
 *
 * With an event map `data` has the type of the event; without one it has the type that the handler gives its parameter.
 *
 * `client` is for places that no application is known to: by default it is the one of the plugin. While rendering on a
 * server nothing is subscribed.
 */
export type UseSSE<Events extends object> = string extends keyof Events
  ? <Data = unknown>(
      event: MaybeRefOrGetter<string>,
      handler: (data: Data, event: SSEEvent<Data>) => unknown,
      client?: FittingClient<Events>,
    ) => () => void
  : <Type extends SSEEventName<Events>>(
      event: MaybeRefOrGetter<Type>,
      handler: SSEHandler<Events, Type>,
      client?: FittingClient<Events>,
    ) => () => void;

/**
 * A shallow ref with the data of the newest event of type `event`; `initial` until one comes, and again where `event` changes.
 *
 * Each event triggers it, also where its data equals what was there before. `reduce` is for collecting: it makes the next
 * value of the present one and the event's data. The ref may be written to, with a snapshot for example.
 */
export type UseSSEData<Events extends object> = string extends keyof Events
  ? {
      <Data>(event: MaybeRefOrGetter<string>, initial: Data): ShallowRef<Data>;
      <Data>(event: MaybeRefOrGetter<string>): ShallowRef<Data | undefined>;
      <Value, Data>(
        event: MaybeRefOrGetter<string>,
        initial: Value,
        reduce?: (value: Value, data: Data) => Value,
        client?: FittingClient<Events>,
      ): ShallowRef<Value>;
    }
  : {
      <Type extends SSEEventName<Events>, Initial = SSEDataOf<Events, Type>>(
        event: MaybeRefOrGetter<Type>,
        initial: Initial,
        reduce?: undefined,
        client?: FittingClient<Events>,
      ): ShallowRef<SSEDataOf<Events, Type> | Initial>;
      <Type extends SSEEventName<Events>>(
        event: MaybeRefOrGetter<Type>,
      ): ShallowRef<SSEDataOf<Events, Type> | undefined>;
      <Type extends SSEEventName<Events>, Value>(
        event: MaybeRefOrGetter<Type>,
        initial: Value,
        reduce: (value: Value, data: SSEDataOf<Events, Type>) => Value,
        client?: FittingClient<Events>,
      ): ShallowRef<Value>;
    };

/** A plugin that is given a client: the application made it, connects it and ends it. */
export interface GivenClientOptions<Events extends object = SSEEventMap> {
  readonly client: FittingClient<Events>;
  readonly url?: undefined;
  readonly config?: undefined;
}

/**
 * A plugin that makes a client for each application it is used in: connected when the application is mounted, so never on a
 * server, and destroyed when it is unmounted.
 */
export interface OwnClientOptions {
  readonly client?: undefined;
  /** Where the stream is. Left out where `config` has `urls`. */
  readonly url?: SSEClientConfig['url'];
  /** Settings of the client. */
  readonly config?: Omit<SSEClientConfig, 'url'> | undefined;
}

/** Options of the plugin: a `client`, or `url` and `config`. */
export type SSEPluginOptions<Events extends object = SSEEventMap> = GivenClientOptions<Events> | OwnClientOptions;

/** Props of `ConnectionStatus`. */
export interface ConnectionStatusProps {
  /** What is shown for a status; its name by default. */
  readonly labels?: Partial<Readonly<Record<SSEStatus, string>>> | undefined;
}

/** The component `ConnectionStatus`: its default slot gets what `getStatus()` of the client gives. */
export type ConnectionStatusComponent = new () => {
  $props: AllowedComponentProps & ComponentCustomProps & VNodeProps & ConnectionStatusProps;
  $slots: { default?: (info: SSEStatusInfo) => VNode[] };
};

/** What {@link createSSEContext} gives: a plugin, and the composables that find the client it provides. */
export interface SSEContext<Events extends object = SSEEventMap> {
  /** `app.use(SSEPlugin, { url, config })`, before `app.mount()`. */
  readonly SSEPlugin: Plugin<[SSEPluginOptions<Events>]>;
  /** The plugin with its options: `app.use(createSSE({ url, config }))`, before `app.mount()`. */
  readonly createSSE: (options: SSEPluginOptions<Events>) => Plugin<[]>;
  readonly useSSE: UseSSE<Events>;
  readonly useSSEData: UseSSEData<Events>;
  /**
   * What `getStatus()` of the client gives, anew with each `status` event. On the server and while hydrating it is what a client says that never connected
   * (`disconnected`), so the markup of both is the same.
   */
  readonly useSSEStatus: (client?: FittingClient<Events>) => Readonly<ShallowRef<SSEStatusInfo>>;
  /**
   * Calls `handler` where history has a gap: what the application shows may be out of date. `gap.refetch(load)` holds events
   * back while a snapshot is fetched. Returns its stop function.
   */
  readonly useSSEGap: (handler: (gap: SSEGap) => unknown, client?: FittingClient<Events>) => () => void;
  /**
   * The client, for all that has no composable: `getStats()`, `pause()`, `reconnect()`, `on('message', …)`.
   *
   * @throws {SSEClientError} `SSE_CLIENT_OPTION` where the plugin is not there, or no application is known to the place of the
   * call; so do the other composables, unless they are given a client.
   */
  readonly useSSEClient: () => SSEClient<Events>;
  /**
   * `<span role="status" data-status="connected">connected</span>`, with the present status. `role="status"` has screen
   * readers say a change when they are idle.
   */
  readonly ConnectionStatus: ConnectionStatusComponent;
}
