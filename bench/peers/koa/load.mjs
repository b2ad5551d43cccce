// A closed loop of requests over keep-alive connections.

import { once } from 'node:events';
import { connect } from 'node:net';

/**
 * Sends `requests` in all, over as many connections as there are tokens in `held`. One in `every` brings the next old `token()`
 * instead; what an answer renews takes its place in `held`. Resolves with the number of renewals; an answer other than 200 rejects.
 */
export async function load({ port, requests, held, every, token }) {
  const work = { left: requests, sent: 0, renewed: 0, held, every, token };
  await Promise.all(held.map((_, at) => run(port, work, at)));
  return work.renewed;
}

async function run(port, work, at) {
  const { held } = work;
  const socket = connect({ host: '127.0.0.1', port, noDelay: true }).setEncoding('latin1').setTimeout(60_000);
  socket.on('timeout', () => socket.destroy(new Error('no answer for a minute')));
  await once(socket, 'connect');
  let buffer = '';
  try {
    while (work.left > 0) {
      work.left -= 1;
      work.sent += 1;
      if (work.sent % work.every === 0) held[at] = work.token();
      socket.write(`GET /notes HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${held[at]}\r\n\r\n`);
      let end;
      while ((end = endOf(buffer)) === undefined) {
        const [chunk] = await once(socket, 'data');
        buffer += chunk;
      }
      const head = buffer.slice(0, end);
      buffer = buffer.slice(end);
      if (!head.startsWith('HTTP/1.1 200 ')) throw new Error(`answered ${head.slice(0, 300)}`);
      const renewed = /\r\nrenewed-access-token: (\S+)/i.exec(head)?.[1];
      if (renewed !== undefined) {
        work.renewed += 1;
        held[at] = renewed;
      }
    }
  } finally {
    socket.destroy();
  }
}

/** Where the first answer ends; undefined if it is not there yet. */
function endOf(buffer) {
  const head = buffer.indexOf('\r\n\r\n');
  if (head < 0) return undefined;
  const length = Number(/\r\ncontent-length: (\d+)/i.exec(buffer.slice(0, head))?.[1]);
  const end = head + 4 + length;
  return buffer.length >= end ? end : undefined;
}
