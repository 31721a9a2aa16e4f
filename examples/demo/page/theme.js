// Before the first paint, so that a chosen theme does not flash; without a choice the system's is taken.
try {
  const theme = localStorage.getItem('sse-broker-demo:theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
  // Storage may be forbidden; the system's theme will do.
}
