// The one page of the app.

/** @type {Record<string, string>} */
const ESCAPES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/** @param {unknown} value */
const escape = (value) => String(value).replace(/[&<>"']/g, (c) => ESCAPES[c] ?? c);

/** @param {unknown} value */
const shown = (value) => escape(typeof value === 'string' ? value : JSON.stringify(value));

/**
 * The claims of the access token, and what a person can do with them.
 * @param {Record<string, unknown>} claims
 */
export function claimsPage(claims) {
  const rows = Object.entries(claims).map(([name, value]) => `<dt>${escape(name)}</dt><dd data-claim="${escape(name)}">${shown(value)}</dd>`);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>An app behind the gateway</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/page.css">
<script type="module" src="/front.js"></script>
</head>
<body>
<header>
<h1>Hello, ${escape(claims.name ?? claims.sub)}</h1>
<a href="/logout">Sign out</a>
</header>
<main>
<section>
<h2>What this app knows of you</h2>
<p>It is in the access token that came with this request. Your browser never had it.</p>
<dl>${rows.join('')}</dl>
</section>
<section>
<h2>Your phone</h2>
<p>Sign-ins ask for a code once there is a number. This app sees the number with the next request.</p>
<form id="phone"><label>Number <input name="phone_number" type="tel" autocomplete="tel" required pattern="\\+[0-9]{7,15}" placeholder="+4915112345678"></label><button>Send code</button></form>
<form id="code" hidden><label>Code <input name="code" inputmode="numeric" autocomplete="one-time-code" required pattern="[0-9]{6}"></label><button>Turn on</button></form>
<p id="says" role="status"></p>
</section>
</main>
</body>
</html>`;
}
