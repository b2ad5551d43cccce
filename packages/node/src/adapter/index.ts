// What an adapter for a web framework needs besides the guard. `@reseal/koa` and `@reseal/express` are made of it.

export { beforeHead, putHeaders } from './answer.js';
export { cookieIn } from './cookies.js';
export { excepts, type Exceptions, type PathException } from './unless.js';
