// Plays the person in front of the browser: opens the address, enters the user code, logs in, agrees.
// Goes through the provider's real pages over TLS, with cookies and redirects, as a browser would.
import { request } from 'node:https';

const MOST_STEPS = 20;

function fetchPage(url, ca, cookies, form) {
  return new Promise((resolve, reject) => {
    const body = form ? new URLSearchParams(form).toString() : undefined;
    const headers = { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; ') };
    if (body !== undefined) Object.assign(headers, { 'content-type': 'application/x-www-form-urlencoded', 'content-length': Buffer.byteLength(body) });
    const req = request(url, { method: body === undefined ? 'GET' : 'POST', headers, ca, timeout: 10_000 }, (res) => {
      for (const cookie of res.headers['set-cookie'] ?? []) {
        const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie) ?? [];
        if (!name) continue;
        if (value === '' || /expires=Thu, 01 Jan 1970/i.test(cookie)) cookies.delete(name);
        else cookies.set(name, value);
      }
      let text = '';
      res.setEncoding('utf8');
      res.on('data', (piece) => { text += piece; });
      res.on('end', () => resolve({ status: res.statusCode, location: res.headers.location, text }));
    });
    req.on('timeout', () => req.destroy(new Error(`no answer from ${url}`)));
    req.on('error', reject);
    req.end(body);
  });
}

// Follows redirects until there is a page.
async function open(url, ca, cookies, form) {
  for (let step = 0; step < MOST_STEPS; step += 1) {
    const page = await fetchPage(url, ca, cookies, form);
    if (!page.location) return { ...page, url };
    url = new URL(page.location, url).href;
    form = undefined;
  }
  throw new Error(`too many redirects, the last to ${url}`);
}

const unescape = (text) => text.replaceAll('&quot;', '"').replaceAll('&#39;', "'").replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&');
const field = (page, name) => { const found = new RegExp(`name="${name}"\\s+value="([^"]*)"`).exec(page.text); return found && unescape(found[1]); };
const action = (page) => { const found = /action="([^"]*)"/.exec(page.text); return found && new URL(unescape(found[1]), page.url).href; };
const words = (page) => page.text.replace(/<(style|script)[\s\S]*?<\/\1>/g, '').replace(/<[^>]*>/g, ' ').replace(/\s+/g, ' ').trim().slice(0, 300);

// Returns what the last page says and where it was.
export async function consent(url, account, ca) {
  const cookies = new Map();
  let page = await open(url, ca, cookies);
  if (new URL(url).pathname.endsWith('/device')) {
    // a form that sends itself, then "is this the code?"
    const device = url.split('?')[0];
    const code = { xsrf: field(page, 'xsrf'), user_code: field(page, 'user_code') };
    if (!code.xsrf || !code.user_code) throw new Error(`no user code at ${url}: ${words(page)}`);
    page = await open(device, ca, cookies, code);
    page = await open(device, ca, cookies, { ...code, confirm: 'yes' });
  }
  for (let step = 0; step < MOST_STEPS; step += 1) {
    const prompt = field(page, 'prompt');
    if (prompt === 'login') page = await open(action(page), ca, cookies, { prompt, login: account, password: 'any' });
    else if (prompt === 'consent') page = await open(action(page), ca, cookies, { prompt });
    else break;
  }
  // with callback_mode=direct the way ends on the vault server's own confirmation page
  if (/\/oidc\/callback\?/.test(page.url) && page.text.includes('confirm-button')) page = await open(`${page.url}&confirmation=1`, ca, cookies);
  if (page.status !== 200) throw new Error(`${page.url} answers ${page.status}: ${words(page)}`);
  return { url: page.url.split('?')[0], page: words(page) };
}
