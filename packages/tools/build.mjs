// node packages/tools/build.mjs [--quick] [NAME...]: JavaScript by esbuild, then types by tsc. `--quick` leaves the types out.

import { build } from 'esbuild';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { packages } from './packages.mjs';
import { run } from './run.mjs';

const args = process.argv.slice(2);
const quick = args.includes('--quick');

for (const { name, folder, entries, globals = {}, platform, mangle } of packages(
  args.filter((arg) => !arg.startsWith('--')),
)) {
  const dist = join(folder, 'dist');
  if (!quick) rmSync(dist, { recursive: true, force: true });
  const common = {
    absWorkingDir: folder,
    bundle: true,
    platform,
    sourcemap: true,
    logLevel: 'warning',
    legalComments: 'none',
    // Properties of our own objects that nobody outside sees: their names are shortened.
    ...(mangle && { mangleProps: new RegExp(`^(${mangle.join('|')})$`) }),
  };
  const target = platform === 'node' ? 'node20.19' : 'es2022';
  await build({
    ...common,
    target,
    entryPoints: entries,
    outdir: dist,
    format: 'esm',
    splitting: true,
    packages: 'external',
    minify: platform === 'browser',
  });
  for (const [file, [entry, globalName]] of Object.entries(globals)) {
    // `angular` is on the page already.
    await build({
      ...common,
      target,
      entryPoints: [entry],
      outfile: join(dist, `${file}.js`),
      format: 'iife',
      globalName,
      minify: true,
      external: ['angular'],
    });
  }
  if (!quick) {
    run(
      'npx',
      ['--no-install', 'tsc', '--noEmit', 'false', '--declaration', '--emitDeclarationOnly', '--outDir', 'dist'],
      folder,
    );
  }
  console.log(`built @reseal/${name}`);
}
