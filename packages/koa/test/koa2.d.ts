// Koa 2 under another name; what we use of it has the same types.
declare module 'koa2' {
  import Koa from 'koa';
  export default Koa;
}
