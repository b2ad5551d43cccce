// Random inputs that a failure can be repeated with: the seed is printed by a failing test's message.

/** Numbers in [0, 1) by a seed (mulberry32). */
export function random(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** A whole number from 0 up to but not `below`. */
export function upTo(next: () => number, below: number): number {
  return Math.floor(next() * below);
}

export function pick<T>(next: () => number, from: readonly T[]): T {
  return from[upTo(next, from.length)] as T;
}
