// The packages in the order in which they are built.
//
// What a package is made of stands in its package.json under "reseal": `entries` become ES modules, `globals` scripts
// for a <script> tag that hang their exports on one global name, `gzip` bounds files in bytes after gzip, `mangle` lists
// properties whose names are shortened. `angular` is built by itself.

import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '../..');

const NAMES = ['browser', 'node', 'koa', 'express', 'angularjs'];

/** All packages, or those named. */
export function packages(only = []) {
  for (const name of only)
    if (!NAMES.includes(name)) throw new Error(`no package ${name}; there are ${NAMES.join(', ')}`);
  return NAMES.filter((name) => only.length === 0 || only.includes(name)).map((name) => {
    const folder = join(root, 'packages', name);
    const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    return { name, folder, manifest, ...manifest.reseal };
  });
}
