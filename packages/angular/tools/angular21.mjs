import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('../test/angular21/', import.meta.url));

/** The folder of the other Angular, with what its lock file says, installed unless that was done already. */
export function angular21() {
  const changed = (file) => statSync(folder + file, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (changed('node_modules/.package-lock.json') < changed('package-lock.json')) {
    const { status } = spawnSync('npm', ['ci', '--no-audit', '--no-fund'], { cwd: folder, stdio: 'inherit' });
    if (status !== 0) process.exit(status || 1);
  }
  return folder;
}
