// node tools/build.mjs: the package into dist/, by ng-packagr.

import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('..', import.meta.url));
const read = (file) => JSON.parse(readFileSync(here + file, 'utf8'));

// ng-packagr asks for a newer Node than the rest of this repository.
const { status } = spawnSync(
  'node_modules/node/bin/node',
  ['node_modules/ng-packagr/src/cli/main.js', '--project', 'ng-package.json', '--config', 'tsconfig.lib.json'],
  {
    cwd: here,
    stdio: 'inherit',
    env: { ...process.env, NG_CLI_ANALYTICS: 'false' },
  },
);
if (status !== 0) process.exit(status || 1);

// Here it is the folder beside this one; for others it is a version. (ng-packagr adds tslib, of which nothing is used.)
const { overrides: _, ...manifest } = read('dist/package.json');
manifest.dependencies = { '@reseal/browser': read('../browser/package.json').version };
writeFileSync(`${here}dist/package.json`, `${JSON.stringify(manifest, null, 2)}\n`);
