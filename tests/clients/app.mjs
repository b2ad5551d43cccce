// A real Koa app behind @reseal/koa, with routes that a test can hold, and a note of what came.

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { fileURLToPath } from 'node:url';
import Koa from 'koa';
import { session } from '@reseal/koa';

// Read once: what is built anew meanwhile is for the next run.
const LIBRARY = readFileSync(fileURLToPath(import.meta.resolve('@reseal/browser/global')));
const PAGE = readFileSync(new URL('page.html', import.meta.url));

/** Starts the app. `origins`: pages elsewhere that may call it. `now`: the clock of its guard, milliseconds. */
export async function startApp({ port, issuer, service, origins, now, admin }) {
  const requests = [];
  const held = new Map();
  const origin = `http://127.0.0.1:${port}`;
  const feed = {
    issuer,
    audience: origin,
    client: { id: service.client_id, secret: service.client_secret },
    sessionCookie: true,
    now,
    log: SILENT,
  };
  const guard = session(feed);
  // A second one that leaves the renewal to the client.
  const strict = session({ ...feed, sliding: false, onStale: 'refuse' });

  const app = new Koa();
  app.silent = true;
  app.use(async (ctx, next) => {
    if (ctx.path.startsWith('/api/') || ctx.path.startsWith('/broken/')) {
      const sent = ctx.get('authorization');
      requests.push({
        method: ctx.method,
        path: ctx.path,
        scheme: sent.split(' ')[0],
        auth: sent && hash(sent),
        cookie: ctx.get('cookie') !== '',
      });
    }
    await next();
  });
  app.use(cors(origins));
  app.use(files);
  app.use(broken);
  app.use(async (ctx, next) => {
    if (ctx.path.startsWith('/api/strict/')) return strict(ctx, next);
    if (ctx.path.startsWith('/api/')) return guard(ctx, next);
    return next();
  });

  const routes = {
    '/api/me': (ctx) => (ctx.body = { ...ctx.state.user, token: undefined }),
    '/api/strict/me': (ctx) => (ctx.body = { ...ctx.state.user }),
    /** Answers when the test says so. */
    '/api/slow': async (ctx) => {
      await new Promise((resolve) => held.set(ctx.query.id, resolve));
      ctx.body = { sub: ctx.state.user.sub };
    },
    '/api/forbidden': (ctx) => ctx.state.session.requireScope('notes:never'),
    '/api/step-up': (ctx) => ctx.state.session.requireAcr('aal9'),
    '/api/count': async (ctx) => (ctx.body = { bytes: await size(ctx.req) }),
    '/api/strict/count': async (ctx) => (ctx.body = { bytes: await size(ctx.req) }),
    '/api/away': (ctx) => ctx.redirect(ctx.query.to),
    /** The backend changes the record of its user, and has his token resealed in the same answer. */
    '/api/upgrade': async (ctx) => {
      await admin('PATCH', `/v1/admin/users/${ctx.state.user.sub}`, { roles: [ctx.query.role] });
      ctx.body = { resealed: (await ctx.state.session.reseal()) !== null };
    },
  };
  app.use(async (ctx, next) => {
    const route = routes[ctx.path];
    return route ? route(ctx) : next();
  });

  const server = app.listen(port, '127.0.0.1');
  await once(server, 'listening');
  await guard.ready();
  await strict.ready();

  return {
    origin,
    requests,
    /** Requests to this path since `mark`. */
    to: (path, mark = 0) => requests.slice(mark).filter((request) => request.path === path),
    mark: () => requests.length,
    /** Whether a slow request waits under this name. */
    holds: (id) => held.has(id),
    release(id) {
      held.get(id)();
      held.delete(id);
    },
    async stop() {
      server.closeAllConnections();
      server.close();
      await guard.close();
      await strict.close();
    },
  };
}

/** Somebody else's site: lets every page call with any header, and notes the credentials that came. */
export async function startForeign() {
  const seen = [];
  const server = http.createServer(async (request, response) => {
    const headers = {
      'Access-Control-Allow-Origin': request.headers.origin ?? '*',
      'Access-Control-Allow-Credentials': 'true',
      'Access-Control-Allow-Headers': request.headers['access-control-request-headers'] ?? '*',
      'Access-Control-Expose-Headers': 'Renewed-Access-Token, WWW-Authenticate',
    };
    if (request.method === 'OPTIONS') {
      seen.push({ preflight: request.headers['access-control-request-headers'] ?? '' });
      response.writeHead(204, headers).end();
      return;
    }
    const path = request.url.split('?')[0];
    seen.push({ path, authorization: request.headers.authorization, cookie: request.headers.cookie });
    if (path === '/page')
      return response.writeHead(200, { 'Content-Type': 'text/html' }).end('<!doctype html><title>Elsewhere</title>');
    if (path === '/401') headers['WWW-Authenticate'] = 'Bearer error="invalid_token"';
    if (path === '/plant') headers['Renewed-Access-Token'] = 'eyJhbGciOiJub25lIn0.eyJzdWIiOiJtYWxsb3J5In0.AA';
    return response
      .writeHead(path === '/401' ? 401 : 200, { ...headers, 'Content-Type': 'application/json' })
      .end('{}');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  return {
    seen,
    /** Same site as the app, another origin. */
    origin: `http://127.0.0.1:${port}`,
    /** Another site. */
    crossSite: `http://localhost:${port}`,
    stop() {
      server.closeAllConnections();
      server.close();
    },
  };
}

async function files(ctx, next) {
  if (ctx.path === '/reseal.global.js') {
    ctx.type = 'text/javascript';
    ctx.body = LIBRARY;
  } else if (ctx.path === '/' || ctx.path === '/other') {
    ctx.type = 'html';
    ctx.body = PAGE;
  } else {
    await next();
  }
}

/** A server that is wrong for ever. */
async function broken(ctx, next) {
  if (ctx.path === '/broken/401') {
    ctx.status = 401;
    ctx.set('WWW-Authenticate', 'Bearer error="invalid_token", error_description="Never good enough."');
    ctx.body = { error: 'invalid_token', error_description: 'Never good enough.' };
  } else if (ctx.path === '/broken/403') {
    ctx.status = 403;
    ctx.set('WWW-Authenticate', 'Bearer error="invalid_token"');
    ctx.body = { error: 'invalid_token' };
  } else if (ctx.path === '/broken/500') {
    ctx.status = 500;
    ctx.body = { error: 'server_error' };
  } else {
    await next();
  }
}

/** As @koa/cors does it: on errors too, whose headers Koa would leave out. */
function cors(origins) {
  return async (ctx, next) => {
    const origin = ctx.get('origin');
    ctx.vary('Origin');
    if (!origins.includes(origin)) return next();
    const headers = {
      'Access-Control-Allow-Origin': origin,
      'Access-Control-Allow-Credentials': 'true',
      'Access-Control-Allow-Headers': 'authorization, content-type',
      'Access-Control-Expose-Headers': 'WWW-Authenticate',
    };
    ctx.set(headers);
    if (ctx.method === 'OPTIONS') {
      ctx.status = 204;
      return undefined;
    }
    try {
      return await next();
    } catch (error) {
      error.headers = { ...headers, ...error.headers };
      throw error;
    }
  };
}

async function size(stream) {
  let bytes = 0;
  for await (const chunk of stream) bytes += chunk.length;
  return bytes;
}

const hash = (text) => createHash('sha256').update(text).digest('hex').slice(0, 16);
const SILENT = { info() {}, warn() {} };
