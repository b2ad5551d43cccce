// node packages/tools/test.mjs [NAME...]: the tests of each package, `test/*.test.ts`, on the Node that runs this.
// They import what is under `src` directly, and other packages as they are built.

import { build } from 'esbuild';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { packages } from './packages.mjs';
import { run } from './run.mjs';

const files = [];
for (const { folder } of packages(process.argv.slice(2))) {
  const tests = join(folder, 'test');
  const names = existsSync(tests) ? readdirSync(tests).filter((file) => file.endsWith('.test.ts')) : [];
  if (names.length === 0) continue;
  // Below the package, so that its dependencies are found.
  const outdir = join(folder, 'node_modules/.tests');
  rmSync(outdir, { recursive: true, force: true });
  await build({
    entryPoints: names.map((name) => join(tests, name)),
    outdir,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20.19',
    packages: 'external',
    sourcemap: 'inline',
    logLevel: 'warning',
  });
  files.push(...names.map((name) => join(outdir, name.replace(/\.ts$/, '.mjs'))));
}
run(process.execPath, ['--enable-source-maps', '--test', '--test-reporter=spec', ...files], process.cwd());
