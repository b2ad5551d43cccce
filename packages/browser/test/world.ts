// A made-up browser: tabs with storages, locks, channels, clocks and timers, in one process and in virtual time.

import type { Env } from '../src/env.js';

type Timer = { at: number; order: number; run(): void; tab: Tab | null };

/** Random numbers that come again with the same seed. */
export function seeded(seed: number) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Lets whatever is ready run: promises, streams, and what they cause. */
export async function settled() {
  for (let round = 0; round < 8; round++) await new Promise((resolve) => setImmediate(resolve));
}

export class World {
  /** Milliseconds of true time. */
  time = Date.UTC(2026, 10, 25, 12);
  tabs: Tab[] = [];
  /** Milliseconds after which other tabs see what one has written to localStorage. */
  storageDelay = () => 0;
  private timers: Timer[] = [];
  private order = 0;
  readonly queues = new Map<string, LockRequest[]>();

  constructor(readonly random = seeded(1)) {}

  after(ms: number, run: () => void, tab: Tab | null = null): Timer {
    const timer = { at: this.time + Math.max(0, ms), order: this.order++, run, tab };
    this.timers.push(timer);
    return timer;
  }

  cancel(timer: unknown) {
    this.timers = this.timers.filter((other) => other !== timer);
  }

  /** Moves time on, timer by timer. A sleeping tab's timers wait for it. */
  async pass(seconds: number) {
    const until = this.time + seconds * 1000;
    await settled();
    for (;;) {
      const due = this.timers
        .filter((t) => t.at <= until && !t.tab?.asleep)
        .sort((a, b) => a.at - b.at || a.order - b.order);
      const next = due[0];
      if (!next) break;
      this.cancel(next);
      this.time = Math.max(this.time, next.at);
      if (!next.tab?.dead) next.run();
      await settled();
    }
    this.time = until;
    await settled();
  }

  /** Waits for a promise while time goes on, at most so many seconds. */
  async until<T>(promise: Promise<T>, seconds = 120): Promise<T> {
    let done = false;
    const mark = () => (done = true);
    promise.then(mark, mark);
    await settled();
    for (let i = 0; !done && i < seconds * 20; i++) await this.pass(0.05);
    if (!done) throw new Error('still pending');
    return promise;
  }

  grant(name: string) {
    const queue = this.queues.get(name) ?? [];
    const first = queue[0];
    if (first && !first.running) {
      first.running = true;
      setImmediate(() => first.run());
    }
  }
}

interface LockRequest {
  tab: Tab;
  running: boolean;
  run(): void;
}

export interface TabOptions {
  locks?: boolean;
  channels?: boolean;
  /** Seconds by which the device's clock is wrong. */
  clock?: number;
  fetch: (tab: Tab, url: string, init: RequestInit) => Promise<Response>;
  copyOf?: Tab;
  origin?: string;
}

type Listener = (event: never) => void;

export class Tab {
  dead = false;
  asleep = false;
  visible = true;
  clock: number;
  readonly session: Map<string, string>;
  /** What this tab's process sees of localStorage. */
  local: Map<string, string>;
  readonly channels = new Set<FakeChannel>();
  readonly listeners = new Map<string, Set<Listener>>();
  readonly started: number;
  readonly env: Env;

  constructor(
    readonly world: World,
    readonly options: TabOptions,
  ) {
    this.clock = options.clock ?? 0;
    this.started = world.time;
    this.session = new Map(options.copyOf?.session);
    this.local = new Map(world.tabs[0]?.local);
    world.tabs.push(this);
    const { locks = true, channels = true, origin = 'https://app.example' } = options;
    const on = (prefix: string) => ({
      addEventListener: (event: string, listener: Listener, { signal }: { signal?: AbortSignal } = {}) => {
        const key = prefix + event;
        if (!this.listeners.has(key)) this.listeners.set(key, new Set());
        this.listeners.get(key)!.add(listener);
        signal?.addEventListener('abort', () => this.listeners.get(key)!.delete(listener));
      },
      removeEventListener: (event: string, listener: Listener) =>
        void this.listeners.get(prefix + event)?.delete(listener),
    });
    const tab = this;
    this.env = {
      fetch: async (input: RequestInfo | URL, init: RequestInit = {}) => {
        if (init.body instanceof ReadableStream) init.body.getReader();
        if (!(input instanceof Request)) return options.fetch(this, String(input), init);
        const request = new Request(input, init);
        const { method, headers } = request;
        return options.fetch(this, request.url, { method, headers, body: await request.text() });
      },
      setTimeout: (run: () => void, ms = 0) => world.after(ms, run, this),
      clearTimeout: (timer: unknown) => world.cancel(timer),
      performance: { now: () => world.time - this.started },
      Date: Object.assign(Object.create(null), { now: () => world.time + this.clock * 1000, parse: Date.parse }),
      Math: Object.assign(Object.create(Math), { random: world.random, min: Math.min, max: Math.max, ceil: Math.ceil }),
      document: {
        get visibilityState() {
          return tab.visible ? 'visible' : 'hidden';
        },
        baseURI: origin + '/page/',
        ...on('document:'),
      },
      location: { href: origin + '/page/', origin },
      navigator: locks ? { locks: this.locks() } : {},
      localStorage: this.storage(
        () => this.local,
        (key, value) => this.spread(key, value),
      ),
      sessionStorage: this.storage(() => this.session),
      BroadcastChannel: channels
        ? class extends FakeChannel {
            constructor(name: string) {
              super(tab, name);
            }
          }
        : undefined,
      ...on(''),
    } as unknown as Env;
  }

  fire(event: string, detail: object = {}) {
    this.listeners.get(event)?.forEach((listener) => listener({ type: event, ...detail } as never));
  }

  /** The page dies: its timers, locks and channels go with it. */
  kill() {
    this.dead = true;
    this.channels.forEach((channel) => channel.close());
    this.world.tabs = this.world.tabs.filter((tab) => tab !== this);
    for (const [name, queue] of this.world.queues) {
      this.world.queues.set(
        name,
        queue.filter((request) => request.tab !== this),
      );
      this.world.grant(name);
    }
  }

  private storage(area: () => Map<string, string>, wrote?: (key: string, value: string | null) => void) {
    return {
      getItem: (key: string) => area().get(key) ?? null,
      setItem: (key: string, value: string) => {
        area().set(key, value);
        wrote?.(key, value);
      },
      removeItem: (key: string) => {
        area().delete(key);
        wrote?.(key, null);
      },
    };
  }

  private spread(key: string, value: string | null) {
    for (const other of this.world.tabs) {
      if (other === this) continue;
      const write = () => {
        if (other.dead) return;
        if (value === null) other.local.delete(key);
        else other.local.set(key, value);
        setImmediate(() => other.fire('storage', { key }));
      };
      const delay = this.world.storageDelay();
      if (delay) this.world.after(delay, write);
      else write();
    }
  }

  private locks() {
    return {
      request: (name: string, { signal }: { signal?: AbortSignal }, work: () => Promise<unknown>) =>
        new Promise((resolve, reject) => {
          const { queues } = this.world;
          const leave = () => {
            queues.set(
              name,
              (queues.get(name) ?? []).filter((other) => other !== request),
            );
            this.world.grant(name);
          };
          const request: LockRequest = {
            tab: this,
            running: false,
            run: () => {
              if (this.dead) return;
              Promise.resolve(work()).then(resolve, reject).finally(leave);
            },
          };
          signal?.addEventListener('abort', () => {
            if (request.running) return;
            leave();
            reject(signal.reason);
          });
          if (!queues.has(name)) queues.set(name, []);
          queues.get(name)!.push(request);
          this.world.grant(name);
        }),
    };
  }
}

export const posted: unknown[] = [];

class FakeChannel {
  onmessage: ((event: { data: unknown }) => void) | null = null;
  private open = true;

  constructor(
    readonly tab: Tab,
    readonly name: string,
  ) {
    tab.channels.add(this);
  }

  postMessage(data: unknown) {
    const copy = structuredClone(data);
    posted.push(copy);
    for (const other of this.tab.world.tabs) {
      if (other === this.tab) continue;
      for (const channel of other.channels) {
        if (channel.name !== this.name) continue;
        this.tab.world.after(1, () => channel.open && channel.onmessage?.({ data: copy }), other);
      }
    }
  }

  close() {
    this.open = false;
    this.tab.channels.delete(this);
  }
}
