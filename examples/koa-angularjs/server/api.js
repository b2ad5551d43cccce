// The calls of the shop's page. All of them are behind the session: `ctx.state.user` is who calls, and
// `ctx.state.session` is what he may do.

import { readBody } from './http.js';

/** @typedef {import('koa').Middleware} Middleware */

/**
 * @param {{ orders: ReturnType<typeof import('./orders.js').createOrders>, record: ReturnType<typeof import('./record.js').records> }} shop
 * @returns {Record<string, Middleware>} 'METHOD /path' -> what answers
 */
export function apiRoutes({ orders, record }) {
  return {
    // The page's heartbeat. It says what this app believes about the caller, as of this very call.
    'GET /api/hello': async (ctx) => {
      ctx.body = { user: ctx.state.user };
    },

    'GET /api/orders': async (ctx) => {
      ctx.body = { items: orders.of(ctx.state.user.sub) };
    },

    'POST /api/orders': async (ctx) => {
      const order = orders.add(ctx.state.user.sub, await readBody(ctx));
      if (!order) return ctx.throw(400, 'item: up to 80 characters; cents: 1 to 1000000.');
      ctx.status = 201;
      ctx.body = order;
    },

    // A claim decides, so 403: this user may not, and no renewal would change that.
    'GET /api/takings': async (ctx) => {
      if (!ctx.state.user.roles?.includes('admin')) ctx.throw(403, 'The takings are for the role "admin".');
      ctx.body = orders.takings();
    },

    // Money goes back only after a second factor. A weaker login is told so (RFC 9470), and logs in again.
    'POST /api/refunds': async (ctx) => {
      ctx.state.session.requireAcr('aal2');
      const { id } = /** @type {Record<string, unknown>} */ (Object(await readBody(ctx)));
      const order = orders.refund(ctx.state.user.sub, id);
      if (!order) return ctx.throw(404, 'There is no such order.');
      ctx.body = order;
    },

    // The backend changes the record, and the answer to this very call carries the token that says so.
    'POST /api/plan': async (ctx) => {
      const { plan } = /** @type {Record<string, unknown>} */ (Object(await readBody(ctx)));
      if (plan !== 'pro' && plan !== 'free') return ctx.throw(400, 'plan: "pro" or "free".');
      await record.change(ctx.state.user.sub, { attributes: { plan } });
      const user = await ctx.state.session.reseal();
      ctx.body = { plan, resealed: user !== null, user };
    },

    // The same for roles. In a real shop somebody else decides this; here everybody may try it.
    'POST /api/roles': async (ctx) => {
      const { admin } = /** @type {Record<string, unknown>} */ (Object(await readBody(ctx)));
      if (typeof admin !== 'boolean') return ctx.throw(400, 'admin: true or false.');
      const { roles } = await record.read(ctx.state.user.sub);
      const others = roles.filter((/** @type {string} */ role) => role !== 'admin');
      await record.change(ctx.state.user.sub, { roles: admin ? [...others, 'admin'] : others });
      const user = await ctx.state.session.reseal();
      ctx.body = { admin, resealed: user !== null, user };
    },
  };
}
