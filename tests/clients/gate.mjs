// A reverse proxy in front of the authority that loses, holds and refuses on purpose, and counts what passes.

import http from 'node:http';
import { once } from 'node:events';

const MOST_BODY = 1 << 20;
/** Milliseconds that anything may take that a test waits for. */
export const PATIENCE = Number(process.env.RESEAL_PATIENCE ?? 60) * 1000;

/**
 * Starts the gate. The page's `api` is `gate.origin`; the authority sees every call as if it came straight.
 *
 * A rule matches by path (a prefix) and method and says what happens to the call:
 * - `refuse`: the connection is cut before the authority hears of it;
 * - `drop`: the authority has answered, the browser gets nothing;
 * - `cut`: the authority has answered, the browser gets the head and half of the body;
 * - `hang`: the authority hears nothing, the browser waits;
 * - `hold`: the answer waits here until `release()`;
 * - `keep`: the call waits here until `release()`;
 * - `answer`: `{ status, body }` instead of the authority's.
 */
export async function startGate(target) {
  const { hostname, port } = new URL(target);
  const agent = new http.Agent({ keepAlive: true });
  const rules = [];
  const calls = [];
  const open = new Set();

  const server = http.createServer((request, response) => {
    open.add(response);
    response.on('close', () => open.delete(response));
    pass(request, response).catch(() => response.destroy());
  });

  async function pass(request, response) {
    const chunks = [];
    let size = 0;
    for await (const chunk of request) {
      size += chunk.length;
      if (size > MOST_BODY) return response.destroy();
      chunks.push(chunk);
    }
    const body = Buffer.concat(chunks);
    const call = {
      method: request.method,
      path: request.url.split('?')[0],
      query: request.url.split('?')[1] ?? '',
      cookie: 'cookie' in request.headers,
      status: 0,
      during: 0,
    };
    // CORS preflights are the browser's own: not counted, not disturbed, but when everything is away.
    const preflight = request.method === 'OPTIONS';
    if (!preflight) {
      calls.push(call);
      for (const other of calls) if (other.flying && other.path === call.path) other.during = call.during = 1;
      call.flying = true;
      response.on('close', () => (call.flying = false));
    }
    const rule = rules.find((rule) => rule.matches(call, preflight));
    if (rule) rule.hits += 1;
    const action = rule?.action;
    if (action === 'refuse') return response.destroy();
    if (action === 'hang') return undefined;
    if (action === 'answer') return canned(request, response, rule.answer, call);
    if (action === 'keep') await rule.released;
    const answer = await forward(request, body);
    call.status = answer.status;
    call.setsCookie = answer.headers.some((name) => /^set-cookie$/i.test(name));
    if (rule) rule.answers += 1;
    if (action === 'drop') return response.destroy();
    if (action === 'hold') await rule.released;
    if (response.destroyed) return undefined;
    // Every connection is a new one: a browser silently sends a request again when a used connection breaks.
    response.writeHead(answer.status, [...answer.headers, 'Connection', 'close']);
    if (action === 'cut') {
      response.write(answer.body.subarray(0, answer.body.length / 2));
      return setImmediate(() => response.destroy());
    }
    response.end(answer.body);
    return undefined;
  }

  async function forward({ method, url, rawHeaders }, body) {
    const headers = pairs(rawHeaders).filter(
      ([name]) => !/^(connection|host|content-length|transfer-encoding)$/i.test(name),
    );
    const upstream = http.request({
      hostname,
      port,
      method,
      path: url,
      agent,
      headers: [...headers, ['Host', `${hostname}:${port}`], ['Content-Length', String(body.length)]].flat(),
    });
    upstream.setTimeout(PATIENCE, () => upstream.destroy(new Error('the authority does not answer')));
    upstream.end(body);
    const [answer] = await once(upstream, 'response');
    const chunks = [];
    for await (const chunk of answer) chunks.push(chunk);
    const kept = pairs(answer.rawHeaders).filter(
      ([name]) => !/^(connection|keep-alive|transfer-encoding|content-length)$/i.test(name),
    );
    const whole = Buffer.concat(chunks);
    const length = answer.statusCode === 204 ? [] : ['Content-Length', String(whole.length)];
    return { status: answer.statusCode, headers: [...kept.flat(), ...length], body: whole };
  }

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');

  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    calls,
    /** How many calls came to this path since `mark` (what `mark()` gave), whatever became of them. */
    count: (path, mark = 0) => calls.slice(mark).filter((call) => call.path.startsWith(path)).length,
    mark: () => calls.length,
    /** Adds a rule: the newest one wins. `times` calls at most; `preflights` too. */
    rule({ path = '/', method, times = Infinity, preflights = false, ...what }) {
      const [action] = Object.keys(what);
      let release;
      const rule = {
        action,
        answer: what.answer,
        hits: 0,
        answers: 0,
        matches: (call, preflight) =>
          rule.hits < times &&
          call.path.startsWith(path) &&
          (!method || call.method === method) &&
          (preflights || !preflight),
        released: new Promise((resolve) => (release = resolve)),
        /** Lets go of what is held, and whatever comes later passes. */
        release() {
          rule.end();
          release();
        },
        /** No more of it; what is held stays held. */
        end() {
          const at = rules.indexOf(rule);
          if (at >= 0) rules.splice(at, 1);
        },
        /** Resolves when so many calls have met the rule (`answered`: and the authority has answered them). */
        met: (count = 1) => until(() => rule.hits >= count, `${count} calls of ${path} at the gate`),
        answered: (count = 1) => until(() => rule.answers >= count, `${count} answers to ${path} at the gate`),
      };
      rules.unshift(rule);
      return rule;
    },
    /** Nothing passes any more, preflights neither. */
    away() {
      return this.rule({ refuse: true, preflights: true });
    },
    /** Cuts every connection that waits for an answer. */
    cutAll() {
      for (const response of open) response.destroy();
    },
    clear: () => rules.splice(0).forEach((rule) => rule.release()),
    async stop() {
      for (const response of open) response.destroy();
      agent.destroy();
      server.closeAllConnections();
      server.close();
    },
  };
}

/** Waits until the condition holds. */
export async function until(condition, what) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited in vain for: ${what ?? condition}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** An answer of our own, with the CORS headers that the authority would send. */
function canned(request, response, { status, body = {}, headers = {} }, call) {
  call.status = status;
  response.writeHead(status, {
    'Content-Type': 'application/json',
    Connection: 'close',
    'Access-Control-Allow-Origin': request.headers.origin ?? '*',
    'Access-Control-Allow-Credentials': 'true',
    'Access-Control-Expose-Headers': 'date, retry-after, www-authenticate',
    ...headers,
  });
  response.end(JSON.stringify(body));
}

function pairs(raw) {
  const list = [];
  for (let i = 0; i < raw.length; i += 2) list.push([raw[i], raw[i + 1]]);
  return list;
}
