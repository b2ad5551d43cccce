// On a server there is no session: the page says neither that somebody is signed in nor that nobody is.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { build } from 'esbuild';
import { repository } from '../../tools/stage.js';

const folder = join(repository(import.meta.url), 'packages/angular');

test(
  'rendered on a server: nothing is attached, nothing is asked, nobody is led away',
  { timeout: 120_000 },
  async () => {
    const outfile = join(folder, 'node_modules/.tests/rendering.mjs');
    await build({
      entryPoints: [join(folder, 'test/rendering.ts')],
      outfile,
      bundle: true,
      platform: 'node',
      format: 'esm',
      packages: 'external',
      alias: {
        '@reseal/angular/router': join(folder, 'dist/fesm2022/reseal-angular-router.mjs'),
        '@reseal/angular': join(folder, 'dist/fesm2022/reseal-angular.mjs'),
      },
      tsconfigRaw: { compilerOptions: { experimentalDecorators: true, useDefineForClassFields: false } },
    });
    const { status, stdout, stderr } = spawnSync(join(folder, 'node_modules/node/bin/node'), [outfile], {
      encoding: 'utf8',
      timeout: 100_000,
    });
    assert.equal(status, 0, stderr);
    const told = JSON.parse(stdout.split('\n').at(-2)!) as {
      html: string;
      sent: string[];
      user: unknown;
      token: string;
      path: string;
    };
    assert.match(told.html.replace(/<!--.*?-->/g, ''), /<main>loading<\/main>/);
    assert.deepEqual(told.sent, [null]);
    assert.deepEqual([told.user, told.token, told.path], [null, 'signed_out', '/']);
  },
);
