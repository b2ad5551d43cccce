// How a refusal leaves an Express application.

import { Refusal } from '@reseal/node';
import type { ErrorRequestHandler } from 'express';

/**
 * Answers refusals in JSON, as the authority does; after the routes, before handlers of other errors. Without it
 * Express's last resort answers with the same status and headers, and a page for people.
 */
export function refusalHandler(): ErrorRequestHandler {
  return (error: unknown, _req, res, next) => {
    // What has begun can only be cut off: that is Express's to do.
    if (!(error instanceof Refusal) || res.headersSent) {
      next(error);
      return;
    }
    const { status, headers, body, message } = error;
    res
      .status(status)
      .set(headers)
      .json(message === body.error_description ? body : { ...body, debug: message });
  };
}

/** With `debug` the client is told what was wrong. */
export function explain(refusal: Refusal, debug: boolean | undefined): void {
  if (debug && refusal.cause instanceof Error) refusal.message = refusal.cause.message;
}
