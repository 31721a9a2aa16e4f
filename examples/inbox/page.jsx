import { useState } from 'react';
import { createRoot } from 'react-dom/client';
import { SSEProvider, useSSE, useSSEData } from 'sse-broker/react';

const idOf = (event) => /~m([^~]+)/.exec(event.lastEventId)?.[1];

// This page forgets what it has shown when it is loaded anew, so it is a new device each time, and gets what is unread. One
// that stores its messages would keep the name, in localStorage say, and get nothing twice.
const device = crypto.randomUUID();

function Notifications() {
  const [notes, setNotes] = useState([]);
  const unread = useSSEData('unread', 0, (_, { unread }) => unread);
  useSSE('note', (note, event) => setNotes((all) => [{ ...note, id: idOf(event) }, ...all]));
  // Read on another device: ids, { upTo: id } or 'all'.
  useSSE('unread', ({ read }) => {
    if (Array.isArray(read)) setNotes((all) => all.filter(({ id }) => !read.includes(id)));
    else if (read === 'all') setNotes([]);
  });
  const markRead = (ids) =>
    fetch('/messages/read', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ event_ids: ids }),
    });
  return (
    <section>
      <h2>{unread} unread</h2>
      {notes.map(({ id, text }) => (
        <button type="button" key={id} onClick={() => markRead([id])}>
          {text}
        </button>
      ))}
    </section>
  );
}

createRoot(document.querySelector('main')).render(
  <SSEProvider url={`/stream?device=${device}`}>
    <Notifications />
  </SSEProvider>,
);
