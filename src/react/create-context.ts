/** The provider and the hooks of one React context. */
import {
  createContext,
  createElement,
  type FunctionComponent,
  useCallback,
  useContext,
  useEffect,
  useState,
  useSyncExternalStore,
} from 'react';
import type { SSEClient } from '../client/client.js';
import { SSEClientError } from '../client/errors.js';
import { idle } from '../client/status.js';
import type { SSEEventMap, SSEGap, SSEStatusInfo } from '../client/types.js';
import { useLatest } from './latest.js';
import { useOwnClient } from './own-client.js';
import type { ConnectionStatusProps, OwnClientProps, SSEContext, SSEProviderProps } from './types.js';

/** What a client says that never connected: the status on the server, and while hydrating. The same object every time. */
const NEVER_CONNECTED: SSEStatusInfo = /* @__PURE__ */ idle();

/**
 * Makes a provider and hooks of their own. It is for two things: hooks that know the event map of the application, and a
 * page with more than one stream, where the hooks of one context pass the providers of the others. Call it once, outside
 * of components.
 *
 * ```ts
 * export const { SSEProvider, useSSE, useSSEData } = createSSEContext<{ price: { symbol: string; cents: number } }>();
 * ```
 */
export function createSSEContext<Events extends object = SSEEventMap>(): SSEContext<Events> {
  const Context = createContext<SSEClient<Events> | undefined>(undefined);

  const OwnClientProvider: FunctionComponent<OwnClientProps> = (props) =>
    createElement(Context.Provider, { value: useOwnClient<Events>(props) }, props.children);

  const SSEProvider: FunctionComponent<SSEProviderProps<Events>> = (props) =>
    props.client === undefined
      ? createElement(OwnClientProvider, props as OwnClientProps)
      : createElement(Context.Provider, { value: props.client as SSEClient<Events> }, props.children);

  const useSSEClient = (): SSEClient<Events> => {
    const client = useContext(Context);
    if (!client) throw new SSEClientError('SSE_CLIENT_OPTION', 'no <SSEProvider> above this component; wrap it in one');
    return client;
  };

  const useSSE = (event: string, handler: (data: unknown, event: never) => unknown): void => {
    const client = useSSEClient();
    const latest = useLatest({ client, event, handler });
    useEffect(
      () =>
        client.subscribe(event, (data, received) => {
          const { current } = latest;
          // The handler of another event is there a moment before its subscription is.
          if (current.client === client && current.event === event) return current.handler(data, received as never);
        }),
      [client, event, latest],
    );
  };

  const useSSEData = (
    event: string,
    initial?: unknown,
    reduce: (value: unknown, data: unknown) => unknown = (_, data) => data,
  ): unknown => {
    const client = useSSEClient();
    // An object of its own for each event: React leaves out the render where the state is the same.
    const [state, setState] = useState({ client, event, value: initial });
    let { value } = state;
    if (state.client !== client || state.event !== event) {
      value = initial;
      setState({ client, event, value });
    }
    useSSE(event, (data) => setState((now) => ({ client, event, value: reduce(now.value, data) })));
    return value;
  };

  const useSSEStatus = (): SSEStatusInfo => {
    const client = useSSEClient();
    return useSyncExternalStore(
      useCallback(
        (changed: () => void) => {
          client.on('status', changed);
          return () => {
            client.off('status', changed);
          };
        },
        [client],
      ),
      () => client.getStatus(),
      () => NEVER_CONNECTED,
    );
  };

  const useSSEGap = (handler: (gap: SSEGap) => unknown): void => {
    const client = useSSEClient();
    const latest = useLatest(handler);
    useEffect(() => {
      const onGap = (gap: SSEGap) => latest.current(gap);
      client.on('gap', onGap);
      return () => {
        client.off('gap', onGap);
      };
    }, [client, latest]);
  };

  const ConnectionStatus: FunctionComponent<ConnectionStatusProps> = ({ labels, children, ...rest }) => {
    const info = useSSEStatus();
    const { status } = info;
    return createElement(
      'span',
      { role: 'status', 'data-status': status, ...rest },
      children ? children(info) : (labels?.[status] ?? status),
    );
  };

  return {
    SSEProvider,
    useSSE: useSSE as SSEContext<Events>['useSSE'],
    useSSEData: useSSEData as SSEContext<Events>['useSSEData'],
    useSSEStatus,
    useSSEGap,
    useSSEClient,
    ConnectionStatus,
  };
}
