// An issuer that does what a test says, wrong things too. Where the real authority can show it, the tests use that.

import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportJWK, generateKeyPair, SignJWT, type JWK } from 'jose';

export const AUDIENCE = 'https://notes.example';
export const SID = 'AAECAwQFBgcICQoLDA0ODw';
export const SUB = '01890a5d-ac96-774b-bcce-b302099a8057';

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** A key pair with the name that it is published under. */
export interface Key {
  kid: string;
  alg: string;
  sign: CryptoKey;
  jwk: JWK;
}

export async function newKey(kid: string, alg = 'ES256'): Promise<Key> {
  const pair = await generateKeyPair(alg, { extractable: true });
  const jwk = { ...(await exportJWK(pair.publicKey)), kid, alg, use: 'sig' };
  return { kid, alg, sign: pair.privateKey as CryptoKey, jwk };
}

export type Issuer = Awaited<ReturnType<typeof startIssuer>>;

/** Serves metadata and keys; other paths as `routes` has them, 404 if it has not. */
export async function startIssuer() {
  const key = await newKey('k1');
  let keys: unknown = { keys: [key.jwk] };
  const routes = new Map<string, Handler>();
  const seen = new Map<string, number>();
  const server = createServer((request, response) => {
    const path = new URL(request.url ?? '/', 'http://x').pathname;
    seen.set(path, (seen.get(path) ?? 0) + 1);
    const handler = routes.get(path);
    if (handler === undefined) response.writeHead(404).end();
    else handler(request, response);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  // A test that fails before its end leaves nothing behind that keeps the run from ending.
  server.unref().on('connection', (socket) => socket.unref());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const json = (value: unknown): Handler => {
    return (_, response) => void response.setHeader('Content-Type', 'application/json').end(JSON.stringify(value));
  };
  const metadata = {
    issuer: url,
    jwks_uri: `${url}/jwks.json`,
    token_endpoint: `${url}/oauth/token`,
    introspection_endpoint: `${url}/oauth/introspect`,
  };
  routes.set('/.well-known/oauth-authorization-server', json(metadata));
  routes.set('/jwks.json', (request, response) => json(keys)(request, response));
  routes.set('/oauth/token', json({ access_token: 'of.the.feed', expires_in: 300, scope: 'reseal:feed' }));

  return {
    url,
    key,
    metadata,
    json,
    /** The claims of a good token. */
    claims(more: Record<string, unknown> = {}) {
      const now = Math.floor(Date.now() / 1000);
      const own = { iss: url, sub: SUB, aud: [url, AUDIENCE], iat: now, exp: now + 600, sid: SID, rev: 3 };
      return { ...own, client_id: 'notes', scope: 'notes:read', ...more };
    },
    /** A token; good, unless the arguments make it another. */
    token(more: Record<string, unknown> = {}, header: Record<string, unknown> = {}, by: Key = key) {
      const protectedHeader = { alg: by.alg, kid: by.kid, typ: 'at+jwt', ...header };
      return new SignJWT(this.claims(more)).setProtectedHeader(protectedHeader as { alg: string }).sign(by.sign);
    },
    publish: (...published: Key[]) => void (keys = { keys: published.map(({ jwk }) => jwk) }),
    publishRaw: (value: unknown) => void (keys = value),
    on: (path: string, handler: Handler) => void routes.set(path, handler),
    /** Requests of that path so far. */
    count: (path: string) => seen.get(path) ?? 0,
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

/** Warnings of a guard, kept. */
export function keepLog() {
  const lines: string[] = [];
  return { lines, warn: (line: string) => void lines.push(line), info: (line: string) => void lines.push(line) };
}

/** A request with that token. */
export function bearing(token: string) {
  return { method: 'GET', headers: { authorization: `Bearer ${token}` } };
}

/** What a promise was rejected with. */
export async function rejection(promise: Promise<unknown>): Promise<Error & Record<string, unknown>> {
  try {
    await promise;
  } catch (error) {
    return error as Error & Record<string, unknown>;
  }
  throw new Error('it was not rejected');
}
