// A small model of the authority: the rotation table, touches, endings, and an API that checks its tokens.

import { createHash } from 'node:crypto';
import type { World } from './world.js';

export const AUTHORITY = 'https://auth.example';
export const API = 'https://app.example';

export interface Policy {
  kind: 'sliding' | 'fixed' | 'refresh' | 'cookie';
  accessTtl: number;
  idleTtl: number;
  maxTtl: number;
  grace: number;
}

const POLICIES: Record<string, Policy> = {
  sliding: { kind: 'sliding', accessTtl: 1200, idleTtl: 1200, maxTtl: 43200, grace: 10 },
  fixed: { kind: 'fixed', accessTtl: 604800, idleTtl: 604800, maxTtl: 604800, grace: 10 },
  refresh: { kind: 'refresh', accessTtl: 300, idleTtl: 14 * 86400, maxTtl: 90 * 86400, grace: 10 },
  cookie: { kind: 'cookie', accessTtl: 300, idleTtl: 14 * 86400, maxTtl: 90 * 86400, grace: 10 },
};

interface Row {
  id: string;
  policy: Policy;
  used: number;
  nonce: string;
  branch: number;
  renewedAt: number;
  windowAt: number;
  windowFrom: number;
  prevWindowAt: number;
  prevWindowFrom: number;
  startedAt: number;
  ended?: string;
}

export interface Call {
  method: string;
  path: string;
  url: string;
  headers: Headers;
  body: string;
  init: RequestInit;
  at: number;
}

const text = (body: unknown) => String(body ?? '');

export class Model {
  policies = structuredClone(POLICIES);
  rows = new Map<string, Row>();
  record = { sub: 'user-1', name: 'Demo' as string | null, phone_number: null as string | null, revision: 1 };
  /** Every request that reached it, own API included. */
  calls: Call[] = [];
  /** Answers in place of the rules; undefined: the rules. */
  override: ((call: Call) => Response | Promise<Response> | undefined) | undefined;
  secondFactor = false;
  sendsDate = true;
  /** Reads and writes the cookie of the browser. */
  cookie: string | undefined;
  private ids = 0;

  constructor(readonly world: World) {}

  /** Seconds by its own clock. */
  now = () => Math.floor(this.world.time / 1000);

  count = (method: string, path: string) =>
    this.calls.filter((call) => call.method === method && call.path.split('?')[0] === path).length;

  fetch = async (url: string, init: RequestInit): Promise<Response> => {
    const { pathname, search, origin } = new URL(url, API);
    const call: Call = {
      method: init.method ?? 'GET',
      path: pathname + search,
      url,
      headers: new Headers(init.headers),
      body: text(init.body),
      init,
      at: this.now(),
    };
    this.calls.push(call);
    const answer = (await this.override?.(call)) ?? (origin === AUTHORITY ? this.answer(call) : this.api(call));
    if (this.sendsDate && !answer.headers.has('date'))
      answer.headers.set('date', new Date(this.world.time).toUTCString());
    return answer;
  };

  start(policy: Policy): Row {
    const now = this.now();
    const row: Row = {
      ...{ id: `sid-${++this.ids}`, policy, used: 0, nonce: `n${this.ids}`, branch: 0, renewedAt: now, startedAt: now },
      ...{ windowAt: -Infinity, windowFrom: 0, prevWindowAt: -Infinity, prevWindowFrom: 0 },
    };
    this.rows.set(row.id, row);
    return row;
  }

  change(patch: Partial<Model['record']>) {
    this.record = { ...this.record, ...patch, revision: this.record.revision + 1 };
  }

  end(id: string, reason: string) {
    const row = this.rows.get(id);
    if (row) row.ended ??= reason;
  }

  refreshToken({ id, used, nonce, branch }: Row) {
    return `rsl_rt_.${id}.${used + 1}.${derive(nonce, branch)}`;
  }

  /** Why it is over, if it is. */
  private over(row: Row): string | undefined {
    const now = this.now();
    if (row.ended) return row.ended;
    if (now >= row.startedAt + row.policy.maxTtl) return 'max_lifetime';
    if (now >= row.renewedAt + row.policy.idleTtl) return 'idle_timeout';
    return;
  }

  private answer(call: Call): Response {
    const { method, path } = call;
    const json = call.headers.get('content-type') === 'application/json' ? JSON.parse(call.body) : {};
    if (method === 'POST' && path === '/v1/session') {
      if (json.password !== 'right') return error(401, 'invalid_credentials');
      if (this.secondFactor) {
        const factors = [{ factor: 'phone', hint: '…78' }, { factor: 'recovery_code' }];
        return error(403, 'second_factor_required', { challenge: 'challenge-1', factors });
      }
      return this.login(json.client_id);
    }
    if (method === 'POST' && path === '/v1/session/factor') {
      return json.code === '123456' && json.challenge === 'challenge-1'
        ? this.login('refresh')
        : error(400, 'invalid_code', { tries_left: 4 });
    }
    if (path === '/oauth/token') return this.rotate(new URLSearchParams(call.body).get('refresh_token') ?? '');
    if (path === '/oauth/revoke') {
      const token = new URLSearchParams(call.body).get('token') ?? '';
      this.end(shown(token)?.sid ?? token.split('.')[1] ?? '', 'signed_out');
      return new Response('');
    }
    const caller = this.caller(call);
    if (caller instanceof Response) return caller;
    const { row, claims } = caller;
    if (path === '/v1/session/renew') return this.renew(row, claims);
    if (path === '/v1/session' && method === 'GET') return reply(200, this.view(row, claims));
    if (path === '/v1/session' && method === 'DELETE') {
      this.end(row.id, 'signed_out');
      this.cookie = undefined;
      return new Response(null, { status: 204 });
    }
    if (path === '/v1/sessions?except=current' && method === 'DELETE') {
      for (const id of this.rows.keys()) if (id !== row.id) this.end(id, 'revoked');
      return new Response(null, { status: 204 });
    }
    if (path === '/v1/me' && method === 'GET') return reply(200, this.record);
    if (path === '/v1/me' && method === 'PATCH') {
      this.change(json);
      return reply(200, { ...this.credential(row, claims), user: this.record });
    }
    if (path === '/v1/me/phone' && method === 'DELETE') {
      this.change({ phone_number: null });
      const { access_token } = this.credential(row, claims);
      const headers: HeadersInit = access_token ? { 'renewed-access-token': access_token } : {};
      return new Response(null, { status: 204, headers });
    }
    return error(404, 'not_found');
  }

  /** A resource server that also renews sliding tokens on the way. */
  slides = false;
  private api(call: Call): Response {
    const caller = this.caller(call);
    if (caller instanceof Response) return caller;
    const headers: HeadersInit = {};
    if (this.slides && caller.claims && this.now() >= (caller.claims.renew_at ?? Infinity)) {
      caller.row.renewedAt = this.now();
      headers['renewed-access-token'] = this.credential(caller.row, undefined).access_token!;
    }
    return reply(200, { ok: true, rev: caller.claims?.rev }, headers);
  }

  private caller(call: Call): { row: Row; claims?: Shown } | Response {
    const token = call.headers.get('authorization')?.slice(7);
    const id = token ? shown(token)?.sid : call.init.credentials === 'include' ? this.cookie : undefined;
    if (!token && !id) return error(401, 'unauthorized');
    const row = this.rows.get(id ?? '');
    if (!row) return error(401, 'invalid_token');
    const over = this.over(row);
    if (over) return error(401, 'invalid_token', { reason: over });
    const claims = token ? shown(token)! : undefined;
    if (claims && this.now() >= claims.exp) return error(401, 'invalid_token');
    return claims ? { row, claims } : { row };
  }

  private login(clientId: string): Response {
    const row = this.start(this.policies[clientId]!);
    if (row.policy.kind === 'cookie') this.cookie = row.id;
    return reply(201, this.credential(row, undefined, true));
  }

  private renew(row: Row, claims: Shown | undefined): Response {
    const { kind, idleTtl } = row.policy;
    const due = kind === 'cookie' ? row.renewedAt + idleTtl / 2 : kind === 'sliding' ? claims!.renew_at! : Infinity;
    const stale = !!claims && claims.rev < this.record.revision;
    if (this.now() < due && !stale) {
      return reply(200, { renewed: false, renew_at: due === Infinity ? null : due, session: this.view(row, claims) });
    }
    if (kind === 'cookie' || kind === 'sliding') row.renewedAt = this.now();
    return reply(200, { renewed: true, ...this.credential(row, claims) });
  }

  private rotate(token: string): Response {
    const [, id = '', number, nonce = ''] = token.split('.');
    const row = this.rows.get(id);
    if (!row) return error(400, 'invalid_grant');
    const over = this.over(row);
    if (over) return error(400, 'invalid_grant', { reason: over });
    const now = this.world.time / 1000;
    const k = Number(number);
    const { grace } = row.policy;
    if (k === row.used + 1) {
      if (now > row.windowAt + grace) {
        row.prevWindowAt = row.windowAt;
        row.prevWindowFrom = row.windowFrom;
        row.windowAt = now;
        row.windowFrom = row.used;
      }
      Object.assign(row, { used: k, nonce, branch: 0, renewedAt: now });
    } else if (k === row.used && nonce === row.nonce) {
      if (now > row.renewedAt + grace) Object.assign(row, { branch: row.branch + 1, renewedAt: now });
    } else {
      const opened = k >= row.windowFrom ? row.windowAt : k >= row.prevWindowFrom ? row.prevWindowAt : -Infinity;
      if (k < row.used && now <= opened + 2 * grace) return error(400, 'invalid_grant', { reason: 'superseded' });
      this.end(id, 'reuse_detected');
      return error(400, 'invalid_grant', { reason: 'reuse_detected' });
    }
    return reply(200, this.credential(row, undefined, true));
  }

  private life(row: Row, old?: Shown) {
    const now = this.now();
    const { kind, accessTtl, idleTtl, maxTtl } = row.policy;
    const absolute = row.startedAt + maxTtl;
    const idle = Math.min(Math.floor(row.renewedAt) + idleTtl, absolute);
    let exp = kind === 'fixed' ? absolute : Math.min(now + accessTtl, idle);
    if (old && kind !== 'sliding') exp = Math.min(exp, old.exp);
    return { iat: now, exp, idle, absolute };
  }

  private credential(row: Row, old?: Shown, whole = false): { access_token?: string; session: object } {
    if (row.policy.kind === 'cookie') return { session: this.view(row) };
    const { iat, exp } = this.life(row, old);
    const { sub, name, phone_number, revision: rev } = this.record;
    const claims = {
      ...{ sub, sid: row.id, rev, iat, exp, jti: `j${++this.ids}`, name, phone_number },
      ...(row.policy.kind === 'sliding' && { renew_at: iat + Math.floor((exp - iat) / 2) }),
    };
    const refresh = whole && row.policy.kind === 'refresh';
    return {
      access_token: jwt(claims),
      session: { ...this.view(row, claims), ...(refresh && { generation: row.used + 1 }) },
      ...(refresh && { refresh_token: this.refreshToken(row) }),
    };
  }

  private view(row: Row, claims?: Shown) {
    const { idle, absolute } = this.life(row);
    const { kind, idleTtl } = row.policy;
    const renewAt = kind === 'cookie' ? row.renewedAt + idleTtl / 2 : claims?.renew_at;
    return {
      ...{ id: row.id, kind, policy: kind, started_at: row.startedAt, authenticated_at: row.startedAt },
      ...(renewAt && { renew_at: renewAt }),
      ...(kind !== 'fixed' && { idle_expires_at: idle }),
      ...{ expires_at: absolute, acr: 'aal1', amr: ['pwd'] },
    };
  }
}

interface Shown {
  sid: string;
  rev: number;
  iat: number;
  exp: number;
  renew_at?: number;
}

const derive = (nonce: string, branch: number) =>
  createHash('sha256').update(`${nonce}/${branch}`).digest('hex').slice(0, 12);

export const jwt = (claims: object) =>
  [{ typ: 'at+jwt' }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.') + '.sig';

const shown = (token: string): Shown | undefined => {
  try {
    return JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString());
  } catch {
    return;
  }
};

export const reply = (status: number, body: unknown, headers: HeadersInit = {}) =>
  new Response(JSON.stringify(body), { status, headers: { 'content-type': 'application/json', ...headers } });

export const error = (status: number, code: string, more: object = {}, headers: HeadersInit = {}) =>
  reply(
    status,
    { error: code, error_description: `about ${code}`, ...more },
    {
      ...(status === 401 && { 'www-authenticate': code === 'unauthorized' ? 'Bearer' : `Bearer error="${code}"` }),
      ...headers,
    },
  );
