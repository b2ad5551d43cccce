// node tools/lint.mjs: formatting, types with both Angulars, and what publishing would get wrong. Build first.

import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { angular21 } from './angular21.mjs';

const here = fileURLToPath(new URL('..', import.meta.url));
const root = join(here, '../..');
const shared = (tool) => join(root, 'node_modules/.bin', tool);

run(shared('prettier'), [
  '--check',
  '--log-level',
  'warn',
  'src',
  'router',
  'tools',
  'test/*.{ts,mjs,json}',
  '*.json',
  'test/angular21/package.json',
  '!package-lock.json',
]);
run('node_modules/.bin/tsc', ['--project', '.']);
run('node_modules/.bin/tsc', ['--project', 'test']);
typesOfAngular21();
run(shared('publint'), ['--strict', 'dist']);
// ES modules only, as all of Angular.
run(shared('attw'), ['--pack', 'dist', '--profile', 'esm-only']);

/** The package as others install it beside Angular 21, and `test/types.ts` with it. */
function typesOfAngular21() {
  const folder = join(angular21(), 'node_modules');
  const scope = join(folder, '@reseal');
  const types = join(folder, '.types');
  for (const old of [scope, types]) rmSync(old, { recursive: true, force: true });
  mkdirSync(scope);
  cpSync(join(here, 'dist'), join(scope, 'angular'), { recursive: true });
  symlinkSync(join(root, 'packages/browser'), join(scope, 'browser'));
  mkdirSync(types);
  cpSync(join(here, 'test/types.ts'), join(types, 'types.ts'));
  const compilerOptions = {
    strict: true,
    noEmit: true,
    target: 'ES2022',
    module: 'ES2022',
    moduleResolution: 'bundler',
    lib: ['ES2022', 'DOM'],
    types: [],
  };
  writeFileSync(join(types, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['types.ts'] }));
  // Angular 21 wants TypeScript 5.9, which is that of the workspace. Declarations are checked as well: ours must fit both.
  run(shared('tsc'), ['--project', types]);
}

function run(program, args) {
  const { status, error } = spawnSync(program, args, { cwd: here, stdio: 'inherit' });
  if (error) throw error;
  if (status !== 0) process.exit(status || 1);
}
