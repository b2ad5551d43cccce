// Starts the app against the authority's development mode: `npm start`.
//
// PORT: where to listen (3000). RESEAL_DEV: the authority's dev.json (reseal-data/dev.json in the root of the repository).

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { createApp } from './app.js';
import { AuthorityError } from './authority.js';

const START =
  'Start the authority in a terminal of its own, in the root of the repository:\n\n    cargo run --release -- serve --dev\n';

const file = process.env.RESEAL_DEV ?? fileURLToPath(new URL('../../../reseal-data/dev.json', import.meta.url));
const port = Number(process.env.PORT ?? 3000);

const dev = readDevFile();
if (!Number.isInteger(port) || port < 0 || port > 65535) stop(`PORT is ${process.env.PORT}, which is no port.`);

try {
  const app = await createApp({ issuer: dev.issuer, service: dev.clients.service, demo: dev.user, port });
  console.log(
    `The shop is open: ${app.url}\nIts sessions are kept by ${dev.issuer}. Sign in as "${dev.user.username}"; the page knows the password.`,
  );
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM']))
    process.once(signal, () => app.close().then(() => process.exit(0)));
} catch (error) {
  if (error instanceof AuthorityError && error.status === 0)
    stop(`The authority at ${dev.issuer} does not answer. ${START}`);
  if (error instanceof AuthorityError && error.status === 401) {
    stop(
      `The authority at ${dev.issuer} does not know the secret in ${file}. Is another data folder in use there? Name its dev.json in RESEAL_DEV.`,
    );
  }
  if (/** @type {NodeJS.ErrnoException} */ (error).code === 'EADDRINUSE')
    stop(`Port ${port} is taken. Choose another: PORT=3001 npm start`);
  throw error;
}

/** @returns {{ issuer: string, user: { username: string, password: string }, clients: { service: { client_id: string, client_secret: string } } }} */
function readDevFile() {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'ENOENT') return stop(`${file} cannot be read. ${START}`);
    return stop(
      `There is no ${file} yet. ${START}\nIf its data is elsewhere, name the file: RESEAL_DEV=.../dev.json npm start`,
    );
  }
}

/** @param {string} why @returns {never} */
function stop(why) {
  console.error(why);
  process.exit(1);
}
