// The shop's backend: a Koa app whose sessions are kept by Reseal.

import { createServer } from 'node:http';
import Koa from 'koa';
import { session } from '@reseal/koa';
import { apiRoutes } from './api.js';
import { AuthorityError, connect } from './authority.js';
import { CLIENTS, register } from './clients.js';
import { createClock } from './clock.js';
import { devRoutes, moveClock } from './dev.js';
import { errors, ownHost, securityHeaders } from './http.js';
import { createOrders } from './orders.js';
import { records } from './record.js';
import { staticFiles } from './static.js';

/**
 * @typedef {object} AppOptions
 * @property {string} issuer the authority's URL
 * @property {{ client_id: string, client_secret: string }} service this app's own client, with the scopes `reseal:admin`
 *   and `reseal:feed`
 * @property {number} [port] 0: a free one. Default 3000
 * @property {{ username: string, password: string } | null} [demo] the user whom the page offers to log in as; the authority
 *   runs in development mode then, and the page shows his phone and moves the clock
 * @property {Partial<import('@reseal/koa').SessionOptions>} [session] put over the options of the session, for tests
 */

/**
 * Registers the app's clients at the authority, and starts to listen on 127.0.0.1.
 * @param {AppOptions} options
 * @returns {Promise<{ url: string, app: Koa, close: () => Promise<void> }>}
 * @throws {AuthorityError} when the authority does not answer or refuses
 */
export async function createApp({ issuer, service, port = 3000, demo = null, session: override = {} }) {
  const clock = createClock({ follow: demo !== null });
  const authority = connect({ issuer, service, clock });
  if (demo) await moveClock(authority, clock, 0);

  // The port is part of the app's name, which its clients and their tokens bear; so it comes first.
  const app = new Koa();
  const server = await listen(port);
  const { port: taken } = /** @type {import('node:net').AddressInfo} */ (server.address());
  const url = `http://127.0.0.1:${taken}`;
  const origins = [url, `http://localhost:${taken}`];

  try {
    await register(authority, { audience: url, origins });
    const guard = session({
      issuer,
      audience: url,
      client: { id: service.client_id, secret: service.client_secret }, // for the feed: changes are seen within a second
      sessionCookie: true, // who chose cookies sends no token; the authority exchanges the cookie for one
      realm: 'Corner Shop',
      now: clock.now,
      ...override,
    });

    app.use(securityHeaders(issuer)).use(errors).use(authorityErrors).use(ownHost(origins));
    app.use(staticFiles({ issuer, clients: CLIENTS, demo }));
    if (demo) app.use(route(devRoutes(authority, clock)));
    app.use(guard.unless({ custom: (/** @type {Koa.Context} */ ctx) => !ctx.path.startsWith('/api/') }));
    app.use(route(apiRoutes({ orders: createOrders(), record: records(authority) })));

    server.removeAllListeners('request').on('request', app.callback());
    return { url, app, close: () => Promise.all([guard.close(), closeServer(server)]).then(() => undefined) };
  } catch (error) {
    await closeServer(server);
    throw error;
  }
}

/** @param {Record<string, Koa.Middleware>} table @returns {Koa.Middleware} */
function route(table) {
  const routes = new Map(Object.entries(table));
  return (ctx, next) => {
    const answer = routes.get(`${ctx.method === 'HEAD' ? 'GET' : ctx.method} ${ctx.path}`);
    if (answer) return answer(ctx, next);
    const others = ['GET', 'POST'].filter((method) => routes.has(`${method} ${ctx.path}`));
    if (others.length === 0) return next();
    const allow = others.join(', ').replace('GET', 'GET, HEAD');
    return ctx.throw(405, `Only ${allow}.`, { headers: { Allow: allow } });
  };
}

/** The authority is away or refuses: not the caller's fault, and nobody is signed out by it. @type {import('koa').Middleware} */
async function authorityErrors(ctx, next) {
  try {
    await next();
  } catch (error) {
    if (!(error instanceof AuthorityError)) throw error;
    ctx.app.emit('error', error, ctx);
    const away = error.status === 0 || error.status === 503;
    ctx.throw(away ? 503 : 502, 'The record could not be reached. Try again.', {
      expose: true,
      ...(away && { headers: { 'Retry-After': '2' } }),
    });
  }
}

/** Listens, and asks who comes too early to come again. @param {number} port @returns {Promise<import('node:http').Server>} */
function listen(port) {
  return new Promise((resolve, reject) => {
    const server = createServer((_, answer) => answer.writeHead(503, { 'Retry-After': '1' }).end());
    server.requestTimeout = 10_000;
    server.headersTimeout = 5_000;
    server.once('error', reject).listen(port, '127.0.0.1', () => resolve(server));
  });
}

/** @param {import('node:http').Server} server @returns {Promise<void>} */
function closeServer(server) {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
