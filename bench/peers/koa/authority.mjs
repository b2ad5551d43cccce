// The real authority in development mode, and tokens of it that are past half of their life.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** A token of the policy `web` may be renewed after 10 of its 20 minutes. */
const AHEAD = 11 * 60;

export async function startAuthority(binary) {
  const folder = await mkdtemp(join(tmpdir(), 'reseal-bench-koa-'));
  const data = join(folder, 'data');
  const child = spawn(binary, ['serve', '--dev', '--listen', '127.0.0.1:0', '--data', data], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const issuer = await new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).once('line', (line) => resolve(line.split(' ').at(-1)));
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`the authority ended with ${code}`)));
  });
  const { service } = JSON.parse(await readFile(join(data, 'dev.json'), 'utf8')).clients;

  const call = async (path, body, authorization) => {
    const headers = { 'content-type': 'application/json', ...(authorization && { authorization }) };
    const answer = await fetch(issuer + path, { method: 'POST', headers, body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  };
  const administrator = async () => {
    const basic = Buffer.from(`${service.client_id}:${service.client_secret}`).toString('base64');
    const answer = await fetch(`${issuer}/oauth/token`, {
      method: 'POST',
      headers: { authorization: `Basic ${basic}` },
      body: new URLSearchParams({ grant_type: 'client_credentials', scope: 'reseal:admin' }),
    });
    return `Bearer ${(await answer.json()).access_token}`;
  };

  return {
    issuer,
    ahead: AHEAD,
    service: { id: service.client_id, secret: service.client_secret },
    /** That many tokens, each of a session of its own, whose half is over. */
    async tokens(count, audience) {
      const admin = await administrator();
      const claims = ['name', 'email', 'phone_number', 'phone_number_verified', 'roles'];
      const registered = {
        name: 'bench',
        policy: 'web',
        audience: [audience],
        scope: 'notes:read notes:write',
        claims,
      };
      const { client_id } = await call('/v1/admin/clients', registered, admin);
      const user = { username: 'bench', name: 'Ada Lovelace', email: 'ada@example.com', roles: ['editor', 'admin'] };
      const { sub } = await call('/v1/admin/users', user, admin);
      const tokens = [];
      while (tokens.length < count) {
        const some = Array.from({ length: Math.min(32, count - tokens.length) }, () =>
          call(`/v1/admin/users/${sub}/sessions`, { client_id, amr: ['pwd'] }, admin),
        );
        tokens.push(...(await Promise.all(some)).map(({ access_token }) => access_token));
      }
      await call('/dev/clock', { advance: AHEAD });
      return tokens;
    },
    async stop() {
      const gone = once(child, 'exit');
      child.kill();
      await gone;
      await rm(folder, { recursive: true, force: true });
    },
  };
}
