// node packages/tools/build.mjs [--quick] [NAME...]: JavaScript by esbuild, then types by tsc. `--quick` leaves the types out.

import { build } from 'esbuild';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { minify } from 'terser';
import { packages } from './packages.mjs';
import { run } from './run.mjs';

const args = process.argv.slice(2);
const quick = args.includes('--quick');

/** Bundles, and makes what browsers load as small as can be: esbuild and terser each find what the other does not. */
async function emit(options) {
  if (!options.minify) return build(options);
  const { outputFiles } = await build({ ...options, write: false });
  const text = (path) => outputFiles.find((file) => file.path === path)?.text;
  for (const { path } of outputFiles.filter((file) => file.path.endsWith('.js'))) {
    const { code, map } = await minify(text(path), {
      ecma: 2022,
      module: options.format === 'esm',
      sourceMap: { content: text(`${path}.map`), url: `${basename(path)}.map`, includeSources: true },
    });
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, code);
    writeFileSync(`${path}.map`, map);
  }
}

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
  await emit({
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
    await emit({
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
