// A worker whose every request runs one scenario and answers with what it saw: /?scenario=…&url=…
import { scenarios } from './scenarios.mjs';

export default {
  async fetch(request) {
    const { searchParams } = new URL(request.url);
    try {
      return Response.json({
        ...(await scenarios[searchParams.get('scenario')](searchParams.get('url'))),
        unhandled: [],
      });
    } catch (error) {
      return Response.json({ error: String(error?.stack ?? error) }, { status: 500 });
    }
  },
};
