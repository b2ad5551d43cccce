// The edges of the app: its security headers, what Host it answers to, its errors, and the JSON it reads.

const MAX_BODY = 4 * 1024;

/**
 * For a page without inline scripts or styles that calls itself and the authority, and nobody else.
 * @param {string} issuer
 * @returns {import('koa').Middleware}
 */
export function securityHeaders(issuer) {
  const policy = [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    `connect-src 'self' ${new URL(issuer).origin}`,
    "form-action 'none'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
  ].join('; ');
  return async (ctx, next) => {
    ctx.set({
      'Content-Security-Policy': policy,
      'X-Content-Type-Options': 'nosniff',
      'Referrer-Policy': 'no-referrer',
      'Cross-Origin-Opener-Policy': 'same-origin',
      'Cross-Origin-Resource-Policy': 'same-origin',
      'Permissions-Policy': 'camera=(), geolocation=(), microphone=()',
      'Cache-Control': 'no-store',
    });
    await next();
  };
}

/**
 * The app answers to its own names only, so that no site can reach it under a name of its own (DNS rebinding). Pages move
 * to the first of them: a browser takes `localhost` for another site than the authority's `127.0.0.1`, and sends no cookie.
 * @param {string[]} origins
 * @returns {import('koa').Middleware}
 */
export function ownHost(origins) {
  return async (ctx, next) => {
    const [main] = origins;
    const named = `http://${ctx.get('host')}`;
    if (!origins.includes(named)) ctx.throw(421, 'This is the app of another address.');
    if (named !== main && ctx.method === 'GET' && !ctx.path.startsWith('/api/'))
      return ctx.redirect(`${main}${ctx.path}${ctx.search}`);
    await next();
  };
}

/**
 * Every error as `{error, error_description, reason?}`, like the authority's own. The session's refusals bring their body
 * and their headers along; what is unexpected goes to the log and not to the caller.
 * @type {import('koa').Middleware}
 */
export async function errors(ctx, next) {
  try {
    await next();
    if (ctx.status === 404 && ctx.body == null) ctx.throw(404, 'There is no such page.');
  } catch (error) {
    const { status = 500, expose, headers, body, message } = /** @type {any} */ (error);
    if (!expose) ctx.app.emit('error', error, ctx);
    ctx.status = expose ? status : 500;
    if (headers) ctx.set(headers);
    ctx.body = body ?? {
      error: NAMES.get(ctx.status) ?? 'error',
      error_description: expose ? message : 'Something went wrong here. Try again.',
    };
  }
}

const NAMES = new Map([
  [400, 'invalid_request'],
  [403, 'forbidden'],
  [404, 'not_found'],
  [405, 'method_not_allowed'],
  [413, 'too_large'],
  [415, 'unsupported_media_type'],
  [421, 'misdirected_request'],
  [500, 'server_error'],
  [502, 'authority_error'],
  [503, 'temporarily_unavailable'],
]);

/**
 * The JSON of a request. A form of another site cannot send this content type without asking first.
 * @param {import('koa').Context} ctx
 * @returns {Promise<unknown>}
 */
export async function readBody(ctx) {
  if (!ctx.is('application/json')) ctx.throw(415, 'Send JSON.');
  let size = 0;
  const parts = [];
  for await (const part of ctx.req) {
    size += part.length;
    // Nobody reads the rest, so this answer is the connection's last.
    if (size > MAX_BODY) ctx.throw(413, `Send ${MAX_BODY} bytes at most.`, { headers: { Connection: 'close' } });
    parts.push(part);
  }
  try {
    return JSON.parse(Buffer.concat(parts).toString('utf8'));
  } catch {
    return ctx.throw(400, 'That is no JSON.');
  }
}
