// What an adapter for a web framework needs besides the guard. `@reseal/koa` and `@reseal/express` are made of it.

export { invalidToken, missingToken, unavailable } from '../refusal.js';
export { admit, carry, guardOf, type AdapterOptions, type IsRevoked, type OwnCookie } from './admission.js';
export { beforeHead, putHeaders } from './answer.js';
export { cookieIn } from './cookies.js';
export { inRealm, realmOf } from './realm.js';
export { excepts, type Exceptions, type PathException } from './unless.js';
