// Express 4 under another name; what we use of it has the same types.
declare module 'express4' {
  import express from 'express';
  export default express;
}
