// An app that knows nothing of Reseal: it verifies the bearer token of each request, as koa-jwt's README says.
// Nothing in here speaks of cookies, logins or sessions.

import { readFile } from 'node:fs/promises';
import { ServerResponse } from 'node:http';
import jwksRsa from 'jwks-rsa';
import Koa from 'koa';
import jwt from 'koa-jwt';
import { WebSocketServer } from 'ws';
import { claimsPage } from './page.js';

const PORT = Number(process.env.PORT ?? 3000);
const ISSUER = process.env.ISSUER ?? 'http://127.0.0.1:4000';

const app = new Koa();

// The two READMEs, put together. `audience`: the authority's development client names no other than the issuer.
const authenticate = jwt({
  secret: jwksRsa.koaJwtSecret({
    jwksUri: `${ISSUER}/jwks.json`,
    cache: true,
    rateLimit: true,
    jwksRequestsPerMinute: 10,
  }),
  audience: ISSUER,
  issuer: ISSUER,
  algorithms: ['ES256'],
});

const front = await readFile(new URL('./front.js', import.meta.url));
const css = await readFile(new URL('./page.css', import.meta.url));
const NOTE_MAX = 4096;
/** @type {{ by: string, text: string }[]} */
const notes = [];

/** @type {Record<string, (ctx: Koa.Context) => unknown>} */
const routes = {
  'GET /': (ctx) => {
    ctx.set('Content-Security-Policy', "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'");
    ctx.type = 'html';
    ctx.body = claimsPage(ctx.state.user);
  },
  'GET /front.js': (ctx) => {
    ctx.type = 'text/javascript';
    ctx.body = front;
  },
  'GET /page.css': (ctx) => {
    ctx.type = 'css';
    ctx.body = css;
  },
  'GET /api/me': (ctx) => {
    ctx.body = ctx.state.user;
  },
  'POST /api/notes': async (ctx) => {
    const text = await textOf(ctx);
    if (text === undefined) return (ctx.status = 413);
    notes.push({ by: ctx.state.user.sub, text });
    if (notes.length > 100) notes.shift();
    ctx.status = 201;
    ctx.body = { by: ctx.state.user.sub, text };
  },
  // What arrives here, for whoever wonders (and for the tests).
  'GET /api/headers': (ctx) => {
    ctx.cookies.set('theme', 'dark');
    ctx.body = ctx.req.rawHeaders;
  },
};

app.use(async (ctx, next) => {
  ctx.set('X-Served-By', 'app');
  ctx.set('Cache-Control', 'no-store');
  await next();
});
app.use(authenticate);
app.use(async (ctx) => routes[`${ctx.method} ${ctx.path}`]?.(ctx));

const server = app.listen(PORT, '127.0.0.1', () => {
  const address = server.address();
  console.log(`listening on http://127.0.0.1:${address && typeof address === 'object' ? address.port : PORT}`);
});

// A WebSocket begins as a GET with the same bearer token, and is verified by the same function.
const sockets = new WebSocketServer({ noServer: true, maxPayload: 64 * 1024 });
server.on('upgrade', async (request, socket, head) => {
  socket.on('error', () => socket.destroy());
  try {
    if (request.url !== '/ws') throw new Error('not here');
    const ctx = app.createContext(request, new ServerResponse(request));
    await authenticate(ctx, async () => {});
    sockets.handleUpgrade(request, socket, head, (ws) => {
      ws.on('error', () => ws.terminate());
      ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary }));
      ws.send(`hello ${ctx.state.user.name}`);
    });
  } catch {
    socket.end('HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
  }
});

/**
 * The body of a request as text; undefined if it has more than `NOTE_MAX` bytes.
 * @param {Koa.Context} ctx
 */
async function textOf(ctx) {
  const parts = [];
  let length = 0;
  for await (const part of ctx.req) {
    length += part.length;
    if (length <= NOTE_MAX) parts.push(part);
  }
  if (length > NOTE_MAX) return undefined;
  return Buffer.concat(parts).toString('utf8');
}

process.once('SIGTERM', () => {
  for (const ws of sockets.clients) ws.terminate();
  server.close();
  server.closeAllConnections();
});
