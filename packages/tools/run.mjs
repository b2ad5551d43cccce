import { spawnSync } from 'node:child_process';

/** Runs a command with its output shown; ends this process when it fails. */
export function run(program, args, cwd, env = {}) {
  const { status, error } = spawnSync(program, args, { cwd, stdio: 'inherit', env: { ...process.env, ...env } });
  if (error) throw error;
  if (status !== 0) {
    console.error(`${program} ${args.join(' ')} in ${cwd}: ${status ?? 'killed'}`);
    process.exit(status || 1);
  }
}
