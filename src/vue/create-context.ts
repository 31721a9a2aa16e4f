/** The plugin and the composables of one injection key. */
import {
  type App,
  defineComponent,
  getCurrentInstance,
  getCurrentScope,
  h,
  hasInjectionContext,
  type InjectionKey,
  inject,
  type MaybeRefOrGetter,
  markRaw,
  onMounted,
  onScopeDispose,
  type PropType,
  type SlotsType,
  shallowRef,
  ssrContextKey,
  toRaw,
  toValue,
  triggerRef,
  watch,
} from 'vue';
import { SSEClient } from '../client/client.js';
import { SSEClientError } from '../client/errors.js';
import { idle } from '../client/status.js';
import type { SSEEventMap, SSEGap, SSEStatus, SSEStatusInfo } from '../client/types.js';
import type { ConnectionStatusComponent, FittingClient, SSEContext, SSEPluginOptions } from './types.js';

/** What a client says that never connected: the status on the server, and while hydrating. The same object every time. */
const NEVER_CONNECTED: SSEStatusInfo = /* @__PURE__ */ idle();

type Handler = (data: unknown, event: never) => unknown;

/**
 * True while an application is rendered on a server: `renderToString` and the like provide their context to it. Scopes are not
 * ended there, so what is subscribed would stay.
 */
function isServerRendering(): boolean {
  return hasInjectionContext() && inject(ssrContextKey, undefined) !== undefined;
}

/** True in the setup of a component that takes over markup of a server: then, and only then, it has its element already. */
function isHydrating(): boolean {
  return Boolean(getCurrentInstance()?.vnode.el);
}

function onDispose(undo: () => void): void {
  if (getCurrentScope()) onScopeDispose(undo);
}

/**
 * Makes a plugin and composables of their own. It is for two things: composables that know the event map of the application,
 * and an application with more than one stream. Call it once, outside of components.
 *
 * ```ts
 * export const { createSSE, useSSE, useSSEData } = createSSEContext<{ price: { symbol: string; cents: number } }>();
 * ```
 */
export function createSSEContext<Events extends object = SSEEventMap>(): SSEContext<Events> {
  const key: InjectionKey<SSEClient<Events>> = Symbol('sse-broker');

  const install = (app: App, { client: given, url, config }: SSEPluginOptions<Events>): void => {
    // Private fields cannot be read through the proxy that a store or a reactive object makes of it, or has made.
    const client = markRaw(toRaw(given as SSEClient<Events> | undefined) ?? new SSEClient<Events>({ ...config, url }));
    app.provide(key, client);
    if (given) return;
    const { mount } = app;
    // After the components: they have subscribed by then. A server renders without mounting.
    app.mount = (...args) => {
      const root = mount.apply(app, args);
      client.connect();
      return root;
    };
    app.onUnmount(() => client.destroy());
  };

  const useSSEClient = (given?: FittingClient<Events>): SSEClient<Events> => {
    const client =
      toRaw(given as SSEClient<Events> | undefined) ?? (hasInjectionContext() ? inject(key, undefined) : undefined);
    if (client) return client;
    throw new SSEClientError(
      'SSE_CLIENT_OPTION',
      'no client here; install the plugin with app.use(createSSE(…)), and outside of components and stores use app.runWithContext() or pass a client',
    );
  };

  /** `changed` is called before the subscription to another event, which may deliver at once what waited for it. */
  const follow = (
    event: MaybeRefOrGetter<string>,
    handler: Handler,
    given: FittingClient<Events> | undefined,
    changed?: () => void,
  ): (() => void) => {
    const client = useSSEClient(given);
    if (isServerRendering()) return () => {};
    return watch(
      () => toValue(event),
      (type, previous, onCleanup) => {
        if (previous !== undefined) changed?.();
        onCleanup(client.subscribe(type, (data, received) => handler(data, received as never)));
      },
      // Not a moment without a subscription, and none with the old one.
      { immediate: true, flush: 'sync' },
    );
  };

  const useSSE = (event: MaybeRefOrGetter<string>, handler: Handler, given?: FittingClient<Events>) =>
    follow(event, handler, given);

  const useSSEData = (
    event: MaybeRefOrGetter<string>,
    initial?: unknown,
    reduce: (value: unknown, data: unknown) => unknown = (_, data) => data,
    given?: FittingClient<Events>,
  ) => {
    const value = shallowRef(initial);
    const set = (next: unknown) => {
      // Setting what is there already would tell nobody.
      if (Object.is(next, value.value)) triggerRef(value);
      else value.value = next;
    };
    follow(
      event,
      (data) => set(reduce(value.value, data)),
      given,
      () => set(initial),
    );
    return value;
  };

  const useSSEStatus: SSEContext<Events>['useSSEStatus'] = (given) => {
    const client = useSSEClient(given);
    if (isServerRendering()) return shallowRef(NEVER_CONNECTED);
    const status = shallowRef(NEVER_CONNECTED);
    const update = () => {
      status.value = client.getStatus();
    };
    const start = () => {
      update();
      client.on('status', update);
    };
    if (isHydrating()) onMounted(start);
    else start();
    onDispose(() => client.off('status', update));
    return status;
  };

  const useSSEGap: SSEContext<Events>['useSSEGap'] = (handler, given) => {
    const client = useSSEClient(given);
    if (isServerRendering()) return () => {};
    const onGap = (gap: SSEGap) => handler(gap);
    const stop = () => {
      client.off('gap', onGap);
    };
    client.on('gap', onGap);
    onDispose(stop);
    return stop;
  };

  const ConnectionStatus = defineComponent({
    name: 'ConnectionStatus',
    props: { labels: Object as PropType<Partial<Record<SSEStatus, string>>> },
    slots: Object as SlotsType<{ default: SSEStatusInfo }>,
    setup(props, { slots }) {
      const info = useSSEStatus();
      return () => {
        const { status } = info.value;
        const content = slots.default ? slots.default(info.value) : (props.labels?.[status] ?? status);
        return h('span', { role: 'status', 'data-status': status }, content);
      };
    },
  });

  return {
    SSEPlugin: { install },
    createSSE: (options) => ({ install: (app) => install(app, options) }),
    useSSE: useSSE as SSEContext<Events>['useSSE'],
    useSSEData: useSSEData as SSEContext<Events>['useSSEData'],
    useSSEStatus,
    useSSEGap,
    useSSEClient: () => useSSEClient(),
    ConnectionStatus: ConnectionStatus as unknown as ConnectionStatusComponent,
  };
}
