import { createPinia, defineStore } from 'pinia';
import { ConnectionStatus, createSSE, useSSE, useSSEClient, useSSEGap } from 'sse-broker/vue';
import { computed, createApp, ref } from 'vue';

const useNotifications = defineStore('notifications', () => {
  const byId = ref({});
  const unread = computed(() => Object.values(byId.value).filter(({ isRead }) => !isRead).length);

  async function load(signal) {
    const response = await fetch('/notifications', { signal });
    if (!response.ok) throw new Error(`notifications: ${response.status}`);
    for (const one of await response.json()) byId.value[one.id] = one;
  }

  // Events wait while a snapshot is on its way, so none is overwritten with what is older.
  const client = useSSEClient();
  async function refresh() {
    client.pause();
    await load().finally(() => client.resume());
  }

  // The store outlives the components that use it, and so do these.
  useSSE('notification', (one) => {
    byId.value[one.id] = one;
  });
  // The stream is open: from here on nothing is missed, and what came before is in the snapshot.
  useSSE('connected', refresh);
  // Unless the server has forgotten it. This one waits and resumes by itself.
  useSSEGap((gap) => gap.refetch(load));
  return { byId, unread };
});

const App = {
  components: { ConnectionStatus },
  setup() {
    return { store: useNotifications() };
  },
  template: `
    <ConnectionStatus />
    <h1>{{ store.unread }} unread</h1>
    <ul>
      <li v-for="one in store.byId" :key="one.id">{{ one.text }}</li>
    </ul>`,
};

createApp(App)
  .use(createPinia())
  .use(createSSE({ url: '/events' }))
  .mount('main');
