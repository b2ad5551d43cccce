// Which of the four ways, and where tokens are kept: in the address, so that a reload and a second tab keep it.

/** @typedef {'sliding' | 'fixed' | 'refresh' | 'cookie'} Kind */

export const WAYS = [
  {
    kind: 'sliding',
    number: '2.1',
    name: 'Sliding',
    text: 'One short token of 20 minutes. The shop renews it on the way, once half of it is over.',
  },
  {
    kind: 'fixed',
    number: '2.2',
    name: 'Long-lived',
    text: 'One token of 7 days, then a new login. Nothing renews it, and still it can be ended at once.',
  },
  {
    kind: 'refresh',
    number: '2.3',
    name: 'Access + refresh',
    text: 'An access token of 5 minutes, and a refresh token that is used once and tells a thief from a second tab.',
  },
  {
    kind: 'cookie',
    number: 'or',
    name: 'Cookie',
    text: 'An opaque HttpOnly cookie. No script sees a token, neither ours nor one that sneaked in.',
  },
];

export const PLACES = [
  { storage: 'memory', name: 'Memory', text: 'Gone with a reload; out of reach of scripts that read storage.' },
  { storage: 'session', name: 'This tab', text: 'sessionStorage: survives a reload of this tab.' },
  {
    storage: 'local',
    name: 'All tabs',
    text: 'localStorage: shared by the tabs of this browser, and readable by every script on the page.',
  },
];

/** @param {string} search the address's query */
export function readChoice(search) {
  const query = new URLSearchParams(search);
  const way = WAYS.find(({ kind }) => kind === query.get('keep')) ?? WAYS[0];
  const place = PLACES.find(({ storage }) => storage === query.get('storage')) ?? PLACES[2];
  return {
    kind: /** @type {Kind} */ (way?.kind),
    storage: /** @type {'memory' | 'session' | 'local'} */ (place?.storage),
  };
}

/** @param {{ kind: string, storage: string }} choice */
export const address = ({ kind, storage }) => `?keep=${kind}&storage=${storage}`;

/** The switches at the top. @param {ReturnType<typeof readChoice>} choice */
export function ChoiceController(choice) {
  const vm = /** @type {any} */ (this);
  vm.ways = WAYS.map((way) => ({
    ...way,
    chosen: way.kind === choice.kind,
    href: address({ ...choice, kind: way.kind }),
  }));
  vm.places = PLACES.map((place) => ({
    ...place,
    chosen: place.storage === choice.storage,
    href: address({ ...choice, storage: place.storage }),
  }));
  vm.way = WAYS.find(({ kind }) => kind === choice.kind);
  vm.place = PLACES.find(({ storage }) => storage === choice.storage);
  vm.tokens = choice.kind !== 'cookie';
}
ChoiceController.$inject = ['choice'];
