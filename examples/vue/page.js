import { ConnectionStatus, createSSE, useSSE, useSSEData } from 'sse-broker/vue';
import { createApp, ref } from 'vue';

const App = {
  components: { ConnectionStatus },
  setup() {
    // The newest price of each symbol.
    const prices = useSSEData('price', {}, (all, { symbol, cents }) => ({ ...all, [symbol]: cents }));
    const limit = ref(100);
    const last = ref('none yet');
    useSSE('price', ({ symbol, cents }) => {
      if (cents > limit.value * 100) last.value = `${symbol} at ${cents / 100}`;
    });
    const labels = { connected: 'live', reconnecting: 'connection lost, trying again…', failed: 'offline' };
    return { prices, limit, last, labels };
  },
  template: `
    <ConnectionStatus :labels="labels" />
    <ul>
      <li v-for="(cents, symbol) in prices" :key="symbol">{{ symbol }}: {{ (cents / 100).toFixed(2) }}</li>
    </ul>
    <p>Tell me above <input type="number" v-model="limit">: {{ last }}</p>`,
};

createApp(App)
  .use(createSSE({ url: '/events' }))
  .mount('main');
