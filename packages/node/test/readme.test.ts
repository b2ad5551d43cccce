// The README's ten lines, as they stand there, in a process of their own, with the package as it is built.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { AUDIENCE, eventually, startAuthority } from '../../tools/authority.js';

const HERE = join(process.cwd(), 'packages/node');

test('the start of the README', async () => {
  const authority = await startAuthority();
  const { issuer, service } = authority;
  const file = join(HERE, `node_modules/.tests/readme-${process.pid}.mjs`);
  try {
    const code = /```js\n(.*?)```/s.exec(await readFile(join(HERE, 'README.md'), 'utf8'))?.[1] as string;
    const changes = [
      ["'https://auth.example.org'", JSON.stringify(issuer)],
      ["'https://notes.example.org'", JSON.stringify(AUDIENCE)],
      ["id: 'notes-api'", `id: ${JSON.stringify(service.id)}`],
      ['listen(3000)', `listen(0, '127.0.0.1', function () { console.log(this.address().port); })`],
    ] as const;
    const changed = changes.reduce((text, [from, to]) => {
      assert.ok(text.includes(from), from);
      return text.replace(from, to);
    }, code);
    await writeFile(file, changed);
    const env = { ...process.env, NOTES_API_SECRET: service.secret };
    const child = spawn(process.execPath, [file], { cwd: HERE, env, stdio: ['ignore', 'pipe', 'inherit'] });
    const gone = once(child, 'exit');
    try {
      const [port] = (await Promise.race([once(createInterface({ input: child.stdout }), 'line'), gone])) as [string];
      const get = (headers: Record<string, string>) => fetch(`http://127.0.0.1:${port}/`, { headers });

      const none = await get({});
      assert.deepEqual([none.status, none.headers.get('www-authenticate')], [401, 'Bearer']);
      assert.equal(((await none.json()) as { error: string }).error, 'unauthorized');

      const sub = await authority.user('Ann');
      const { access_token: token } = await authority.login(await authority.client('web'), sub);
      const hello = await get({ authorization: `Bearer ${token}` });
      assert.deepEqual(
        [hello.status, await hello.text(), hello.headers.get('renewed-access-token')],
        [200, 'Hello Ann', null],
      );

      await authority.admin('PATCH', `/users/${sub}`, { name: 'Anna' });
      let renewed = hello;
      await eventually('the change is seen', async () => {
        renewed = await get({ authorization: `Bearer ${token}` });
        return renewed.headers.has('renewed-access-token');
      });
      assert.deepEqual([await renewed.text(), renewed.headers.get('cache-control')], ['Hello Anna', 'no-store']);
    } finally {
      child.kill();
      await gone;
    }
  } finally {
    await rm(file, { force: true });
    await authority.stop();
  }
});
