import { StrictMode, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { ConnectionStatus, SSEProvider, useSSE, useSSEData } from 'sse-broker/react';

const LABELS = { connected: 'live', reconnecting: 'connection lost, trying again…', failed: 'offline' };

function Prices() {
  // The newest price of each symbol.
  const prices = useSSEData('price', {}, (all, { symbol, cents }) => ({ ...all, [symbol]: cents }));
  return (
    <ul>
      {Object.entries(prices).map(([symbol, cents]) => (
        <li key={symbol}>
          {symbol}: {(cents / 100).toFixed(2)}
        </li>
      ))}
    </ul>
  );
}

function Alarm() {
  const [limit, setLimit] = useState(100);
  const [last, setLast] = useState('none yet');
  // Written inline: it is always the newest that is called, with the newest limit, on the same connection.
  useSSE('price', ({ symbol, cents }) => {
    if (cents > limit * 100) setLast(`${symbol} at ${cents / 100}`);
  });
  return (
    <p>
      Tell me above <input type="number" value={limit} onChange={({ target }) => setLimit(Number(target.value))} />:{' '}
      {last}
    </p>
  );
}

createRoot(document.querySelector('main')).render(
  <StrictMode>
    <SSEProvider url="/events">
      <ConnectionStatus labels={LABELS} />
      <Prices />
      <Alarm />
    </SSEProvider>
  </StrictMode>,
);
