import type { Logger } from './types.js';

/** Where lines go. The same thing is said once a minute at most. */
export interface Log {
  /** `about` is a fixed word for what is told; the rest of the same minute is counted only. */
  warn(about: string, message: string): void;
  info(message: string): void;
}

/** Warnings by the console unless told otherwise. `monotonic` tells milliseconds. */
export function createLog(to: Logger | undefined, monotonic: () => number): Log {
  const told = new Map<string, { at: number; held: number }>();
  const logger: Logger = to ?? { warn: (message: string) => console.warn(message) };
  /** A logger that fails must not end what runs in the background. */
  const tell = (level: 'warn' | 'info', message: string): void => {
    try {
      logger[level]?.(`reseal: ${message}`);
    } catch {
      // There is nobody to tell.
    }
  };
  return {
    warn(about, message) {
      const last = told.get(about);
      const now = monotonic();
      if (last !== undefined && now - last.at < QUIET_MS) {
        last.held++;
        return;
      }
      const held = last !== undefined && last.held > 0 ? ` (and ${last.held} times since the last line)` : '';
      told.set(about, { at: now, held: 0 });
      tell('warn', message + held);
    },
    info: (message) => tell('info', message),
  };
}

const QUIET_MS = 60_000;
