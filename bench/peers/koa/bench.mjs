// node bench/peers/koa/bench.mjs [--binary FILE] [--requests N] [--rounds N]
//
// CPU time per request of three Koa servers, one process each: bare Koa; koa-jwt with a KeyObject secret and a renewal past
// half of a token's life as teams write it by hand; @reseal/koa with the real authority. Over loopback, keep-alive, the same
// load for each, the three in turn within a round, the median of the rounds. One request in a hundred comes with a token
// past half of its life, and its connection goes on with the newer one.
//
// Needs `npm ci`, the packages built, and the authority's binary.

import { fork } from 'node:child_process';
import { createSecretKey, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { parseArgs } from 'node:util';
import jsonwebtoken from 'jsonwebtoken';
import { startAuthority } from './authority.mjs';
import { load } from './load.mjs';

const { values } = parseArgs({
  options: {
    binary: { type: 'string', default: 'target/release/reseal' },
    requests: { type: 'string', default: '20000' },
    rounds: { type: 'string', default: '7' },
  },
});
const rounds = bounded(values.rounds, 100);
const requests = bounded(values.requests, 1_000_000);
const CONNECTIONS = 64;
const PER_RENEWAL = 100;
const AUDIENCE = 'https://notes.example';

const authority = await startAuthority(values.binary);
const servers = [];
try {
  const secret = randomBytes(32).toString('base64');
  // One more round, to warm up.
  const needed = (rounds + 1) * Math.ceil(requests / PER_RENEWAL) + CONNECTIONS;
  const ours = await authority.tokens(needed, AUDIENCE);
  const { issuer, service } = authority;
  servers.push(
    await start('bare', {}, () => 'none'),
    await start('koa-jwt', { secret }, byHand(secret, ours[0])),
    await start('reseal', { issuer, audience: AUDIENCE, client: service, ahead: authority.ahead }, () => ours.pop()),
  );
  for (let round = 0; round <= rounds; round += 1) {
    for (const server of servers) {
      const { port, token, held } = server;
      const before = await cpu(server);
      const renewed = await load({ port, requests, held, every: PER_RENEWAL, token });
      if (round > 0) server.figures.push(((await cpu(server)) - before) / requests);
      const expected = server.name === 'bare' ? 0 : Math.floor(requests / PER_RENEWAL);
      if (renewed < expected) throw new Error(`${server.name}: ${renewed} renewals of ${expected}`);
    }
  }
  report();
} finally {
  for (const { child } of servers) child.kill();
  await authority.stop();
}

function report() {
  const [bare, theirs, mine] = servers.map(({ figures }) => figures.sort((a, b) => a - b)[figures.length >> 1]);
  const line = (name, us, more = '') => console.log(`  ${name.padEnd(44)} ${us.toFixed(1).padStart(7)} us${more}`);
  console.log(
    `koa: CPU time per request, ${CONNECTIONS} connections, one renewal in ${PER_RENEWAL}, median of ${rounds} x ${requests}`,
  );
  line('bare Koa', bare);
  line('koa-jwt (HS256) and a renewal by hand', theirs);
  line('@reseal/koa (ES256, the feed, the authority)', mine, `  (${(mine / theirs).toFixed(2)} x koa-jwt; bar 1.30)`);
  line('  of it on top of Koa: koa-jwt', theirs - bare);
  line('  of it on top of Koa: @reseal/koa', mine - bare);
}

async function start(name, settings, token) {
  const child = fork(new URL('./server.mjs', import.meta.url), [name], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  child.send(settings);
  const ready = once(child, 'message');
  const gone = once(child, 'exit').then(([code]) => Promise.reject(new Error(`the server ${name} ended with ${code}`)));
  gone.catch(() => {});
  const [{ port }] = await Promise.race([ready, gone]);
  return { name, child, port, token, held: Array.from({ length: CONNECTIONS }, token), figures: [] };
}

/** User and system time of the server in microseconds. */
async function cpu({ child }) {
  child.send('cpu');
  const [{ user, system }] = await once(child, 'message');
  return user + system;
}

/** Old tokens with the claims of one of ours, signed as by the login that teams write. */
function byHand(secret, like) {
  const key = createSecretKey(Buffer.from(secret));
  const { iat, exp, jti, renew_at, ...claims } = JSON.parse(Buffer.from(like.split('.')[1], 'base64url'));
  let n = 0;
  return () => {
    const now = Math.floor(Date.now() / 1000);
    return jsonwebtoken.sign({ ...claims, n: (n += 1), iat: now - 660, exp: now + 540 }, key);
  };
}

function bounded(text, most) {
  const n = Number(text);
  if (!Number.isInteger(n) || n < 1 || n > most) throw new Error(`${text}: 1 to ${most}`);
  return n;
}
