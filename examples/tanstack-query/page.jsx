import { QueryClient, QueryClientProvider, useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { SSEProvider, useSSE, useSSEGap } from 'sse-broker/react';

/** One component of the page listens for all queries. */
function Invalidation() {
  const queries = useQueryClient();
  useSSE('changed', ({ key }) => queries.invalidateQueries({ queryKey: key }));
  // What changed between the first fetch and the moment that the stream is open, no event says.
  useSSE('connected', () => queries.invalidateQueries());
  // Nobody knows what was missed: all that is shown is fetched again.
  useSSEGap((gap) => gap.refetch(() => queries.invalidateQueries()));
  return null;
}

async function ask(path, init) {
  const response = await fetch(path, init);
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
}

function Todos() {
  // It does not become old by itself: events say when.
  const { data = [] } = useQuery({
    queryKey: ['todos'],
    queryFn: () => ask('/todos'),
    staleTime: Number.POSITIVE_INFINITY,
  });
  const { mutate } = useMutation({
    mutationFn: (text) => ask('/todos', { method: 'POST', body: JSON.stringify({ text }) }),
  });
  return (
    <>
      <ul>
        {data.map(({ id, text }) => (
          <li key={id}>{text}</li>
        ))}
      </ul>
      <button type="button" onClick={() => mutate('Something else')}>
        Add
      </button>
    </>
  );
}

createRoot(document.querySelector('main')).render(
  <StrictMode>
    <QueryClientProvider client={new QueryClient()}>
      <SSEProvider url="/events">
        <Invalidation />
        <Todos />
      </SSEProvider>
    </QueryClientProvider>
  </StrictMode>,
);
