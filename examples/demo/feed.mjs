/** What this process does, once a second, to everybody. */

/** @returns {() => void} stops it */
export function startFeed(broker, jobs, intervalMs = 1_000) {
  let cpu = process.cpuUsage();
  let loop = performance.eventLoopUtilization();
  let at = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    const { user, system } = process.cpuUsage(cpu);
    const { utilization } = performance.eventLoopUtilization(loop);
    const elapsedMs = now - at;
    cpu = process.cpuUsage();
    loop = performance.eventLoopUtilization();
    at = now;
    const { totalClients, totalUsers, totalTopics, ...stats } = broker.getStats();
    if (totalClients === 0) return;
    const { rss, heapUsed } = process.memoryUsage();
    const figures = {
      // Of one core; work in other threads counts too.
      cpuPercent: Math.round((user + system) / elapsedMs / 10),
      eventLoopPercent: Math.round(utilization * 100),
      rssBytes: rss,
      heapUsedBytes: heapUsed,
      uptimeSeconds: Math.round(process.uptime()),
      connections: totalClients,
      users: totalUsers,
      topics: totalTopics,
      jobsRunning: jobs.running,
      published: stats.published,
      delivered: stats.delivered,
      dropped: stats.dropped,
      replayed: stats.replayed,
      gaps: stats.gaps,
      bytesSent: stats.bytes,
    };
    // Old figures are worth nothing: whoever comes back later than that does not get them.
    broker.broadcast('process.stats', figures, { ttl: 5 * intervalMs });
  }, intervalMs);
  return () => clearInterval(timer);
}
