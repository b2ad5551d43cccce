// The files of the pages. The list is complete: what is not on it does not exist.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const page = (/** @type {string} */ name) => new URL(`../public/${name}`, import.meta.url);
const book = (/** @type {string} */ name) => new URL(`../../../docs/src/${name}`, import.meta.url);

const SCRIPTS = [
  'main',
  'choice',
  'clock',
  'desk',
  'devices',
  'dial',
  'journal',
  'live',
  'orders',
  'phone',
  'record',
  'sign-in',
  'token',
  'words',
  'work',
];
const CHAPTERS = [
  'guide/choosing.md',
  'guide/payload.md',
  'guide/second-factor.md',
  'concepts/rotation.md',
  'concepts/cookies.md',
  'concepts/policies.md',
  'security/model.md',
];

/** Address -> file and type. */
const FILES = {
  '/': [page('index.html'), 'text/html'],
  '/costs': [page('costs.html'), 'text/html'],
  '/look.css': [page('look.css'), 'text/css'],
  '/app.css': [page('app.css'), 'text/css'],
  '/costs.css': [page('costs.css'), 'text/css'],
  '/seal.svg': [page('seal.svg'), 'image/svg+xml'],
  '/lib/angular.js': [require.resolve('angular/angular.min.js'), 'text/javascript'],
  '/lib/angular.css': [require.resolve('angular/angular-csp.css'), 'text/css'],
  '/lib/reseal.js': [require.resolve('@reseal/angularjs/global'), 'text/javascript'],
  ...Object.fromEntries(SCRIPTS.map((name) => [`/js/${name}.js`, [page(`js/${name}.js`), 'text/javascript']])),
  ...Object.fromEntries(CHAPTERS.map((name) => [`/book/${name}`, [book(name), 'text/plain']])),
};

/**
 * Reads all files now, so that a missing one is found at the start.
 * @param {Record<string, unknown>} settings what the page needs to know; it stands in the page itself
 * @returns {import('koa').Middleware}
 */
export function staticFiles(settings) {
  // Within <script type="application/json"> nothing ends the text but a tag.
  const json = JSON.stringify(settings).replaceAll('<', '\\u003c');
  const files = new Map(
    Object.entries(FILES).map(([address, [file, type]]) => {
      let body = readFileSync(/** @type {string} */ (file));
      if (address === '/') body = Buffer.from(body.toString('utf8').replace('"SETTINGS"', () => json));
      const etag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`;
      return [address, { body, etag, type: `${type}; charset=utf-8` }];
    }),
  );
  return async (ctx, next) => {
    const file = files.get(ctx.path);
    if (!file) return next();
    if (ctx.method !== 'GET' && ctx.method !== 'HEAD')
      ctx.throw(405, 'Only GET, HEAD.', { headers: { Allow: 'GET, HEAD' } });
    ctx.status = 200;
    ctx.set({ 'Cache-Control': 'no-cache', ETag: file.etag });
    if (ctx.fresh) {
      ctx.status = 304;
      return;
    }
    ctx.type = file.type;
    ctx.body = file.body;
  };
}
