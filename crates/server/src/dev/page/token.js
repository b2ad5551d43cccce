// A token, taken apart: header, payload and signature in three tints, and what changed since the last one.

/** @param {string} part base64url */
function decode(part) {
  const binary = atob(part.replaceAll('-', '+').replaceAll('_', '/'));
  return JSON.parse(new TextDecoder().decode(Uint8Array.from(binary, (c) => c.charCodeAt(0))));
}

/**
 * The claims of an access token, unverified: the page only shows them.
 * @param {string} token
 * @returns {Record<string, any>}
 */
export const claimsOf = (token) => decode(token.split('.')[1] ?? '');

/** @param {string} name @param {string} text @param {string} [hint] */
function span(name, text, hint) {
  const node = document.createElement('span');
  node.className = name;
  node.textContent = text;
  if (hint) node.title = hint;
  return node;
}

/**
 * @param {HTMLElement} host
 * @param {string} token
 * @param {Record<string, any> | undefined} before the claims of the token before
 */
export function showToken(host, token, before) {
  const [header = '', payload = '', signature = ''] = token.split('.');
  const text = document.createElement('pre');
  text.className = 'jwt';
  text.tabIndex = 0;
  text.setAttribute('role', 'group');
  text.setAttribute('aria-label', 'The access token: header, payload and signature');
  text.append(
    span('header', header, 'header'), '.', span('payload', payload, 'payload'), '.', span('signature', signature, 'signature'),
  );
  const list = document.createElement('dl');
  list.className = 'claims';
  for (const [name, value] of Object.entries(claimsOf(token))) {
    const term = document.createElement('dt');
    term.textContent = name;
    const data = document.createElement('dd');
    data.textContent = typeof value === 'string' ? value : JSON.stringify(value);
    const times = ['iat', 'exp', 'auth_time', 'renew_at'];
    if (times.includes(name)) data.title = new Date(value * 1000).toISOString();
    const changed = before && name !== 'jti' && JSON.stringify(before[name]) !== JSON.stringify(value);
    if (changed && !times.includes(name)) {
      term.className = 'changed';
      data.className = 'changed';
    }
    list.append(term, data);
  }
  host.replaceChildren(text, list);
}
