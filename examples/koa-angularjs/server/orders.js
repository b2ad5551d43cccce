// The shop's orders, per user, in memory: not what this example is about.

const MAX_USERS = 1_000;
const MAX_ORDERS = 100;

/**
 * @typedef {object} Order
 * @property {number} id
 * @property {string} item
 * @property {number} cents
 * @property {boolean} refunded
 */

/** What a new user finds. @returns {Order[]} */
const first = () => [
  { id: 1, item: 'Coffee beans, 1 kg', cents: 2490, refunded: false },
  { id: 2, item: 'Filter papers', cents: 390, refunded: false },
];

/** The orders of all users; who has not ordered for longest makes room. */
export function createOrders() {
  /** @type {Map<string, Order[]>} */
  const all = new Map();

  /** @param {string} user */
  const of = (user) => {
    const list = all.get(user) ?? first();
    all.delete(user);
    all.set(user, list);
    if (all.size > MAX_USERS) all.delete(/** @type {string} */ (all.keys().next().value));
    return list;
  };

  return {
    of,
    /** @param {string} user @param {unknown} body @returns {Order | null} null: it is no order */
    add: (user, body) => {
      const { item, cents } = /** @type {Record<string, unknown>} */ (Object(body));
      if (typeof item !== 'string' || item.trim() === '' || item.length > 80) return null;
      if (typeof cents !== 'number' || !Number.isSafeInteger(cents) || cents < 1 || cents > 1_000_000) return null;
      const list = of(user);
      const order = { id: (list.at(-1)?.id ?? 0) + 1, item: item.trim(), cents, refunded: false };
      list.push(order);
      if (list.length > MAX_ORDERS) list.shift();
      return order;
    },
    /** @param {string} user @param {unknown} id */
    refund: (user, id) => {
      const order = of(user).find((each) => each.id === id);
      if (order) order.refunded = true;
      return order ?? null;
    },
    /** What all users together have paid. */
    takings: () => {
      const orders = [...all.values()].flat();
      return {
        orders: orders.length,
        cents: orders.reduce((sum, { cents, refunded }) => sum + (refunded ? 0 : cents), 0),
      };
    },
  };
}
