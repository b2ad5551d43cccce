// What the tests begin with: a world, the model of the authority in it, and tabs with a session each.

import { create as fromSource } from '../src/session.js';
import type { Claims, Events, Session, SessionOptions } from '../src/types.js';
import { AUTHORITY, Model } from './model.js';
import { seeded, Tab, type TabOptions, World } from './world.js';

export interface Page {
  tab: Tab;
  session: Session<Claims>;
  /** Every event, in order, as `name` or `name:detail`. */
  events: string[];
}

export interface Kit {
  world: World;
  model: Model;
  open(options?: Partial<SessionOptions>, tab?: Partial<TabOptions>): Page;
  /** A page that is logged in. */
  login(options?: Partial<SessionOptions>, tab?: Partial<TabOptions>): Promise<Page>;
}

/** `create`: of the sources, or of what was built. */
export function kit(seed = 1, create = fromSource): Kit {
  const world = new World(seeded(seed));
  const model = new Model(world);
  const open: Kit['open'] = (options = {}, tabOptions = {}) => {
    const tab = new Tab(world, { fetch: (_, url, init) => model.fetch(url, init), ...tabOptions });
    const mode = options.mode ?? 'refresh';
    const session = create<Claims>({ api: AUTHORITY, clientId: mode, mode, ...options }, tab.env);
    const events: string[] = [];
    for (const name of ['signedin', 'claims', 'renewed', 'expiring', 'signedout'] as const) {
      session.on(name, (detail: Events<Claims>[typeof name]) => {
        events.push('reason' in detail ? `${name}:${detail.reason}` : name);
      });
    }
    return { tab, session, events };
  };
  return {
    world,
    model,
    open,
    async login(options, tab) {
      const page = open(options, tab);
      await world.until(page.session.login({ username: 'demo', password: 'right' }));
      return page;
    },
  };
}

/** The code of the error that a promise rejects with, or what it resolved to. */
export const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    (value) => `resolved: ${String(value)}`,
    (error: { code?: string }) => error.code ?? String(error),
  );
