// What a guard does to the process that it runs in. The file is its own child.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Guard } from '../src/index.js';
import { AUDIENCE, startAuthority } from '../../tools/authority.js';
import { bearing } from './issuer.js';

const given = process.env.RESEAL_CHILD;

if (given !== undefined) {
  const { issuer, client, token, wait } = JSON.parse(given) as Record<string, string> & {
    client: { id: string; secret: string };
  };
  const guard = new Guard({ issuer: issuer as string, audience: AUDIENCE, client });
  // No close: the process ends when there is nothing left to do.
  if (wait === 'ready') await guard.ready();
  if (wait === 'admit') console.log((await guard.admit(bearing(token as string)))?.subject);
} else {
  test('a guard keeps no process alive, and what waits for it does', async () => {
    const authority = await startAuthority();
    try {
      const sub = await authority.user('ann');
      const { access_token: token } = await authority.login(await authority.client('web'), sub);
      for (const wait of ['nothing', 'ready', 'admit']) {
        const { issuer, service: client } = authority;
        const env: NodeJS.ProcessEnv = {
          ...process.env,
          RESEAL_CHILD: JSON.stringify({ issuer, client, token, wait }),
        };
        // Not as one of the runner's own.
        delete env.NODE_TEST_CONTEXT;
        const child = spawn(process.execPath, [fileURLToPath(import.meta.url)], {
          env,
          stdio: ['ignore', 'pipe', 'inherit'],
        });
        let out = '';
        child.stdout.setEncoding('utf8').on('data', (chunk: string) => (out += chunk));
        const timer = setTimeout(() => child.kill('SIGKILL'), 60_000);
        const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
        clearTimeout(timer);
        assert.deepEqual([code, signal, out.trim()], [0, null, wait === 'admit' ? sub : ''], wait);
      }
    } finally {
      await authority.stop();
    }
  });
}
