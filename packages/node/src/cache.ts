import { hash } from 'node:crypto';
import type { Token } from './payload.js';

/** Most entries that can be asked for. */
export const MAX_CACHE = 1_000_000;
/** Longest total of the payloads, in characters. */
const MAX_CHARACTERS = 256 * 1024 * 1024;

/** A token, and the generation of the key set that it was last found good under. */
export interface Cached {
  readonly token: Token;
  readonly generation: number;
}

/**
 * Verified tokens by the SHA-256 of their text: the least recently used goes when there are too many, or when they are too
 * long. Only tokens that were verified come in, so no stream of forgeries pushes a good one out.
 */
export interface TokenCache {
  get(key: string): Cached | undefined;
  put(key: string, cached: Cached): void;
  remove(key: string): void;
  readonly size: number;
}

/** The name of a token that opens nothing. */
export function tokenHash(token: string): string {
  return hash('sha256', token, 'base64');
}

/** For at most so many entries; 0 keeps nothing. */
export function createCache(maxEntries: number, maxCharacters: number = MAX_CHARACTERS): TokenCache {
  // The old half is dropped as a whole: moving an entry at every hit would cost more than the hit.
  const half = Math.ceil(maxEntries / 2);
  let young = new Map<string, Cached>();
  let old = new Map<string, Cached>();
  let characters = 0;

  const put = (key: string, cached: Cached): void => {
    const length = cached.token.payload.length;
    if (half === 0 || length > maxCharacters / 2) return;
    const known = young.get(key);
    if (known === undefined && (young.size >= half || characters + length > maxCharacters / 2)) {
      old = young;
      young = new Map();
      characters = 0;
    }
    characters += length - (young.get(key)?.token.payload.length ?? 0);
    young.set(key, cached);
  };

  return {
    get(key) {
      const found = young.get(key);
      if (found !== undefined) return found;
      const aged = old.get(key);
      if (aged !== undefined) {
        old.delete(key);
        put(key, aged);
      }
      return aged;
    },
    put(key, cached) {
      old.delete(key);
      put(key, cached);
    },
    remove(key) {
      const found = young.get(key);
      if (found !== undefined) characters -= found.token.payload.length;
      young.delete(key);
      old.delete(key);
    },
    get size() {
      return young.size + old.size;
    },
  };
}
