// Reads {token, key (PEM), issuer, audience} from standard input, verifies the token in a loop with and
// without the cache, and prints the CPU time of this process per verification: {"first": µs, "cached": µs}.

import { createVerifier } from 'fast-jwt';

let input = '';
for await (const chunk of process.stdin) input += chunk;
const { token, key, issuer, audience, times } = JSON.parse(input);

const options = { key, algorithms: ['ES256'], allowedIss: issuer, allowedAud: audience, requiredClaims: ['exp'] };

/** CPU time of the whole process per call, in microseconds, after a warm-up. */
function measure(verify, times) {
  for (let i = 0; i < times / 10; i += 1) verify(token);
  const before = process.cpuUsage();
  for (let i = 0; i < times; i += 1) verify(token);
  const spent = process.cpuUsage(before);
  return (spent.user + spent.system) / times;
}

const first = measure(createVerifier({ ...options, cache: false }), times);
const cached = measure(createVerifier({ ...options, cache: 1000 }), times * 20);
console.log(JSON.stringify({ first, cached }));
