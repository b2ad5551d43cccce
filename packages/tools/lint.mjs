// node packages/tools/lint.mjs [NAME...]: formatting, types of sources and tests, sizes, and what publishing would get wrong;
// without a name also the formatting of the example and of the tests that are about several packages. Build first.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { packages, root } from './packages.mjs';
import { run } from './run.mjs';

const npx = (args, folder) => run('npx', ['--no-install', ...args], folder);
const named = process.argv.slice(2);
const wanted = packages(named);

npx(
  [
    'prettier',
    '--check',
    '--log-level',
    'warn',
    ...wanted.flatMap(({ folder }) => [join(folder, 'src'), join(folder, 'test')]),
    'packages/tools',
    ...(named.length === 0
      ? ['examples/koa-angularjs/{server,public,test}/**/*.{js,mjs}', 'tests/clients/**/*.{js,mjs}']
      : []),
  ],
  root,
);

for (const { name, folder, gzip = {} } of wanted) {
  npx(['tsc', '--project', '.'], folder);
  npx(['tsc', '--project', 'test'], folder);
  for (const [file, most] of Object.entries(gzip)) {
    const bytes = gzipSync(readFileSync(join(folder, 'dist', file)), { level: 9 }).length;
    console.log(`@reseal/${name} ${file}: ${bytes} of ${most} bytes gzipped`);
    if (bytes > most) process.exit(1);
  }
  npx(['publint', '--strict'], folder);
  // ES modules only: Node 20.19 and later load them by require(), too.
  npx(['attw', '--pack', '--profile', 'esm-only'], folder);
}
