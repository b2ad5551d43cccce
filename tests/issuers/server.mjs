// A real issuer that is not Reseal: oidc-provider with JWT access tokens, one resource server per algorithm.
// Prints its issuer, and ends when its standard input does.

import { createServer } from 'node:http';
import { generateKeyPairSync } from 'node:crypto';
import { Provider } from 'oidc-provider';

// Standard output is for the issuer's name alone.
console.info = console.warn;

const jwk = (alg, type, options) => ({
  ...generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }),
  alg,
  kid: `key-${alg}`,
  use: 'sig',
});

// The audience of each resource server, and how its tokens are signed.
const RESOURCES = { 'urn:orders': ['orders', 'ES256'], 'urn:stock': ['stock', 'RS256'], 'urn:mail': ['mail', 'EdDSA'] };

const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    jwks: {
      keys: [
        jwk('ES256', 'ec', { namedCurve: 'P-256' }),
        jwk('RS256', 'rsa', { modulusLength: 2048 }),
        jwk('EdDSA', 'ed25519'),
      ],
    },
    clients: [
      {
        client_id: 'tester',
        client_secret: 'secret of the tests',
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
      },
    ],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo(_context, resource) {
          const [audience, alg] = RESOURCES[resource];
          return { audience, scope: 'read write', accessTokenFormat: 'jwt', accessTokenTTL: 300, jwt: { sign: { alg } } };
        },
      },
    },
    extraTokenClaims: () => ({ tenant: 'acme', limits: { orders: 10 } }),
  });

  // A token of a user, as the authorization code grant would make it, without a browser to log in with.
  provider.use(async (context, next) => {
    if (context.path !== '/user-token') return next();
    const resource = String(context.query.resource);
    const [audience, alg] = RESOURCES[resource];
    const client = await provider.Client.find('tester');
    const token = new provider.AccessToken({ accountId: 'alice@example.org', client, grantId: 'grant', gty: 'authorization_code', scope: 'read' });
    token.resourceServer = new provider.ResourceServer(resource, {
      audience, scope: 'read write', accessTokenFormat: 'jwt', accessTokenTTL: 300, jwt: { sign: { alg } },
    });
    context.body = { access_token: await token.save() };
  });

  server.on('request', provider.callback());
  process.stdout.write(`${issuer}\n`);
});

process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
