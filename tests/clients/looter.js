// An injected script that knows the library and looks for credentials. It runs in the page, after it has loaded.
'use strict';

window.loot = (() => {
  const KINDS = {
    access: /eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}/,
    refresh: /rsl_rt_[\w-]{20,}/,
    cookie: /rsl_sc_[\w-]{20,}/,
  };
  // Before they are replaced.
  const { stringify } = JSON;
  const MOST_OBJECTS = 400_000;
  const kinds = (text) => Object.keys(KINDS).filter((kind) => KINDS[kind].test(text));
  const union = (lists) => [...new Set(lists.flat())].sort();

  /** Every text that can be reached from `roots` by properties of any sort, prototypes, entries and getters. */
  function walk(roots, see) {
    const known = new Set();
    const queue = [...roots];
    const visit = (value) => {
      if (typeof value === 'string') see(value);
      else if (
        value !== null &&
        (typeof value === 'object' || typeof value === 'function') &&
        !known.has(value) &&
        known.size < MOST_OBJECTS
      ) {
        known.add(value);
        queue.push(value);
      }
    };
    roots.forEach((root) => known.add(root));
    while (queue.length > 0) {
      const object = queue.pop();
      let keys = [];
      try {
        keys = Reflect.ownKeys(object);
      } catch {
        continue;
      }
      for (const key of keys) {
        try {
          const { value, get } = Reflect.getOwnPropertyDescriptor(object, key) ?? {};
          if (get) {
            visit(get);
            // Getters of the browser's own prototypes mean nothing here, and some have effects.
            visit(object[key]);
          } else visit(value);
        } catch {
          // Not for us.
        }
      }
      try {
        visit(Reflect.getPrototypeOf(object));
        if (object instanceof Map || object instanceof Set) for (const entry of object.entries()) entry.forEach(visit);
      } catch {
        // A foreign object.
      }
    }
  }

  async function databases() {
    const texts = [];
    for (const { name, version } of await indexedDB.databases()) {
      const open = indexedDB.open(name, version);
      await new Promise((resolve) => (open.onsuccess = open.onerror = resolve));
      for (const store of open.result.objectStoreNames) {
        const all = open.result.transaction(store).objectStore(store).getAll();
        await new Promise((resolve) => (all.onsuccess = all.onerror = resolve));
        texts.push(JSON.stringify(all.result));
      }
    }
    return texts;
  }

  /** What is there to be found, by place: texts. */
  async function places() {
    const reached = [];
    walk([window, window.session, document], (text) => reached.push(text));
    const copies = [];
    for (const copy of [
      () => JSON.stringify(session),
      () => JSON.stringify(structuredClone(session)),
      () => String(session),
      () => Object.values(session).map(String).join(' '),
      () => JSON.stringify(session.user) + JSON.stringify(session.info),
      () =>
        Object.getOwnPropertyNames(Object.getPrototypeOf(session))
          .map((key) => String(session[key]))
          .join(' '),
    ]) {
      try {
        copies.push(copy() ?? '');
      } catch {
        // Functions cannot be cloned.
      }
    }
    const cached = [];
    for (const name of await caches.keys())
      for (const { url } of await (await caches.open(name)).keys()) cached.push(url);
    return {
      localStorage: [JSON.stringify({ ...localStorage })],
      sessionStorage: [JSON.stringify({ ...sessionStorage })],
      cookies: [document.cookie],
      databases: await databases(),
      caches: cached,
      objects: reached,
      copies,
      page: [
        document.documentElement.outerHTML,
        location.href,
        document.referrer,
        window.name,
        JSON.stringify(history.state),
        ...performance.getEntries().map(({ name }) => name),
      ],
    };
  }

  const channels = [];
  const overheard = [];
  const caught = {};
  const note = (how, value) => {
    let text = '';
    try {
      text =
        typeof value === 'string'
          ? value
          : value instanceof Headers || value instanceof FormData || value instanceof URLSearchParams
            ? stringify([...value])
            : stringify(value);
    } catch {
      return;
    }
    caught[how] = union([caught[how] ?? [], kinds(text ?? '')]);
  };

  return {
    /** What is found by looking, by place. */
    async kept() {
      const found = Object.entries(await places()).map(([place, texts]) => [place, union(texts.map(kinds))]);
      return Object.fromEntries(found.filter(([, what]) => what.length > 0));
    },
    /** Where this text is found. */
    async find(text) {
      return Object.entries(await places())
        .filter(([, texts]) => texts.some((t) => t.includes(text)))
        .map(([place]) => place);
    },
    /** Listens on the channel of every session of this page. */
    listen() {
      const { api, clientId } = JSON.parse(new URLSearchParams(location.search).get('options'));
      const names = [api, new URL(api).href].map((url) => `reseal:${clientId}@${url}`);
      for (const name of names) {
        const channel = new BroadcastChannel(name);
        channel.onmessage = ({ data }) => overheard.push(JSON.stringify(data));
        channels.push(channel);
        // Questions of its own, as a duplicated tab would ask them.
        const { id } = session.info;
        for (const ask of [
          { ask: id, generation: 0 },
          { ask: id, generation: 2 ** 53 },
          { who: id, n: 0 },
        ])
          channel.postMessage(ask);
      }
    },
    heard: () => union(overheard.map(kinds)),
    /** What the session object gives away when asked. */
    async asked(session) {
      const answers = [];
      const tell = (value) => answers.push(JSON.stringify(value) ?? '');
      for (const ask of [
        () => session.token(),
        () => session.prepare('/api/me'),
        () => session.call('GET', '/v1/me'),
        () => session.call('GET', '/v1/session'),
        () => session.call('POST', '/v1/session/renew', {}),
        () => session.sessions.list(),
      ]) {
        await ask().then(tell, () => {});
      }
      return union(answers.map(kinds));
    },
    /** Replaces what the page's code calls, after it has loaded. */
    patch() {
      const after = (object, name, how, look) => {
        const real = object[name];
        object[name] = function (...args) {
          note(how, args);
          for (const arg of args)
            if (arg?.headers) note(how, arg.headers instanceof Headers ? arg.headers : { ...arg.headers });
          for (const arg of args) if (arg?.body) note(how, arg.body);
          note(how, this instanceof URLSearchParams || this instanceof Headers ? this : undefined);
          const result = new.target ? Reflect.construct(real, args, new.target) : Reflect.apply(real, this, args);
          look?.(result);
          return result;
        };
        if (real.prototype) object[name].prototype = real.prototype;
      };
      after(window, 'fetch', 'fetch', (answer) =>
        answer.then(
          (response) =>
            response
              .clone()
              .text()
              .then((text) => note('fetch', text)),
          () => {},
        ),
      );
      for (const name of ['Request', 'Headers', 'URLSearchParams', 'Response', 'URL']) after(window, name, name);
      for (const name of ['text', 'json', 'arrayBuffer', 'clone'])
        after(Response.prototype, name, 'Response', (result) =>
          result?.then?.(
            (value) => note('Response', value),
            () => {},
          ),
        );
      for (const name of ['set', 'append', 'get']) after(Headers.prototype, name, 'Headers');
      for (const name of ['set', 'append', 'toString'])
        after(URLSearchParams.prototype, name, 'URLSearchParams', (text) => note('URLSearchParams', text));
      for (const name of ['parse', 'stringify'])
        after(
          JSON,
          name,
          'JSON',
          (value) =>
            name === 'parse' &&
            (caught.JSON = union([
              caught.JSON ?? [],
              ...Object.values(value ?? {})
                .filter((v) => typeof v === 'string')
                .map(kinds),
            ])),
        );
      for (const name of ['split', 'slice', 'replace', 'startsWith']) {
        const real = String.prototype[name];
        String.prototype[name] = function (...args) {
          caught.String = union([caught.String ?? [], kinds(this)]);
          return Reflect.apply(real, this, args);
        };
      }
      for (const name of ['setItem', 'getItem'])
        after(Storage.prototype, name, 'Storage', (text) => note('Storage', text));
      for (const name of ['open', 'send', 'setRequestHeader']) after(XMLHttpRequest.prototype, name, 'XMLHttpRequest');
      after(navigator, 'sendBeacon', 'sendBeacon');
      after(BroadcastChannel.prototype, 'postMessage', 'BroadcastChannel');
      after(window, 'atob', 'atob');
      after(TextDecoder.prototype, 'decode', 'TextDecoder', (text) => note('TextDecoder', text));
      const then = Promise.prototype.then;
      Promise.prototype.then = function (good, bad) {
        const look =
          typeof good === 'function'
            ? (value) => (
                typeof value === 'string' && (caught.Promise = union([caught.Promise ?? [], kinds(value)])),
                good(value)
              )
            : good;
        return Reflect.apply(then, this, [look, bad]);
      };
    },
    caught: () => caught,
  };
})();
