// A real OpenID provider (npm oidc-provider) with tokens in the WLCG profile and switches for tests. README.md says what it stands in for.
import Provider from 'oidc-provider';
import { createServer } from 'node:https';
import { createServer as createPlainServer } from 'node:http';
import { readFileSync, writeFileSync, renameSync, existsSync } from 'node:fs';
import { generateKeyPairSync, randomUUID, createPublicKey, createPrivateKey } from 'node:crypto';
import { SignJWT, jwtVerify } from 'jose';
import { consent } from './consent.mjs';

const { ISSUER, CERT, KEY, CA, STATE, CLIENT_ID, CLIENT_SECRET, REDIRECTS = '', LAB_PORT } = process.env;
const LONGEST_BODY = 1 << 20;
const ANY = 'https://wlcg.cern.ch/jwt/v1/any';
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const AT = 'urn:ietf:params:oauth:token-type:access_token';
// the switches: POST /lab/config changes them, GET /lab/stats shows them
const cfg = { access_ttl: 3600, refresh_ttl: 30 * 86400, rotate: false, token_fail: null, token_delay_ms: 0, no_refresh: false, no_credkey: false, scopes_supported: null };
const stats = {};

const saved = existsSync(STATE) ? JSON.parse(readFileSync(STATE)) : {};
const jwk = saved.jwk ?? { ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }), kid: 'lab', use: 'sig', alg: 'RS256' };
const store = new Map(saved.store ?? []);
let dirty = false;
const flush = () => { writeFileSync(`${STATE}.new`, JSON.stringify({ jwk, store: [...store] }), { mode: 0o600 }); renameSync(`${STATE}.new`, STATE); dirty = false; };
flush();
// kill -9 loses at most the last half second
setInterval(() => { if (dirty) flush(); }, 500).unref();
for (const s of ['SIGTERM', 'SIGINT']) process.on(s, () => { flush(); process.exit(0); });

class Adapter { // the provider's own memory adapter is an LRU of 1000 entries: too small for load tests
  constructor(model) { this.model = model; }
  key(id) { return `${this.model}:${id}`; }
  get(k) { const e = store.get(k); if (e && e.until && e.until < Date.now()) { store.delete(k); dirty = true; return undefined; } return e?.v; }
  async upsert(id, v, ttl) {
    dirty = true;
    const until = ttl ? Date.now() + ttl * 1000 : 0;
    store.set(this.key(id), { v, until });
    if (v.userCode) store.set(`uc:${v.userCode}`, { v: id, until });
    if (v.uid && this.model === 'Session') store.set(`uid:${v.uid}`, { v: id, until });
  }
  async find(id) { return this.get(this.key(id)); }
  async findByUserCode(c) { const id = this.get(`uc:${c}`); return id && this.find(id); }
  async findByUid(u) { const id = this.get(`uid:${u}`); return id && this.find(id); }
  async consume(id) { const e = store.get(this.key(id)); if (e) { e.v.consumed = Math.floor(Date.now() / 1000); dirty = true; } }
  async destroy(id) { store.delete(this.key(id)); dirty = true; }
  async revokeByGrantId(g) { for (const [k, e] of store) if (e.v?.grantId === g) store.delete(k); dirty = true; }
}

const WLCG = /^(wlcg(\.groups(:\/[\w/.-]+)?)?|storage\.(read|create|modify|stage|poll):\/\S*|compute\.(read|modify|create|cancel))$/;
const known = new Set();
const learn = (s) => { for (const x of (s ?? '').split(' ')) if (WLCG.test(x)) known.add(x); };
const wlcg = (scope = '') => {
  const groups = new Set();
  for (const s of scope.split(' ')) if (s.startsWith('wlcg.groups:')) { const g = s.slice(12); groups.add('/' + g.split('/')[1]); groups.add(g); }
  return { 'wlcg.ver': '1.0', ...(groups.size ? { 'wlcg.groups': [...groups] } : {}) };
};

const provider = new Provider(ISSUER, {
  adapter: Adapter,
  jwks: { keys: [jwk] },
  clients: [{
    client_id: CLIENT_ID, client_secret: CLIENT_SECRET, token_endpoint_auth_method: 'client_secret_post',
    grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code', EXCHANGE],
    redirect_uris: REDIRECTS.trim().split(/\s+/), response_types: ['code'],
  }],
  cookies: { keys: ['lab'] },
  scopes: ['openid', 'offline_access'],
  claims: { openid: ['sub', 'wlcg.credkey', 'wlcg.groups'] },
  conformIdTokenClaims: false,
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, ...(cfg.no_credkey ? {} : { 'wlcg.credkey': id }) }) }),
  extraTokenClaims: (ctx, t) => wlcg(t.scope),
  issueRefreshToken: async (ctx, client) => !cfg.no_refresh && client.grantTypeAllowed('refresh_token'),
  rotateRefreshToken: () => cfg.rotate,
  expiresWithSession: () => false,
  ttl: { DeviceCode: 600, RefreshToken: () => cfg.refresh_ttl, Grant: 400 * 86400, Session: 86400, Interaction: 3600, IdToken: 3600 },
  features: {
    userinfo: { enabled: false },
    deviceFlow: { enabled: true, mask: '****-****' },
    revocation: { enabled: true }, introspection: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => ANY,
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx) => {
        learn(ctx.oidc?.params?.scope);
        return { scope: [...known].join(' '), audience: ANY, accessTokenTTL: cfg.access_ttl, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } } };
      },
    },
  },
});

const pub = createPublicKey({ key: jwk, format: 'jwk' });
const priv = createPrivateKey({ key: jwk, format: 'jwk' });
const fail = (ctx, error, error_description, status = 400) => { ctx.status = status; ctx.body = { error, error_description }; };
provider.registerGrantType(EXCHANGE, async (ctx) => {
  const p = ctx.oidc.params;
  const list = (x) => (x === undefined ? [] : [].concat(x));
  if (p.subject_token_type !== AT) return fail(ctx, 'invalid_request', 'subject_token_type');
  let sub;
  try { ({ payload: sub } = await jwtVerify(p.subject_token, pub, { issuer: ISSUER })); } catch (e) { return fail(ctx, 'invalid_grant', 'subject_token: ' + e.code); }
  const had = new Set(sub.scope.split(' '));
  const covers = (s) => had.has(s) || [...had].some((h) => /^storage\./.test(h) && (s === h || s.startsWith(h.endsWith('/') ? h : h + '/')));
  const want = p.scope ? p.scope.split(/[ ,]+/) : [...had];
  const bad = want.filter((s) => !['openid', 'offline_access'].includes(s) && !covers(s));
  if (bad.length) return fail(ctx, 'invalid_scope', 'not granted: ' + bad.join(' '));
  const aud = [...list(p.audience), ...list(p.resource)];
  if (aud.includes('https://forbidden.example')) return fail(ctx, 'invalid_target', 'audience not allowed');
  const scope = want.join(' ');
  const now = Math.floor(Date.now() / 1000);
  const access_token = await new SignJWT({ ...wlcg(scope), scope, client_id: ctx.oidc.client.clientId })
    .setProtectedHeader({ alg: 'RS256', typ: 'at+jwt', kid: jwk.kid }).setIssuer(ISSUER).setSubject(sub.sub)
    .setAudience(aud.length > 1 ? aud : aud[0] ?? ANY).setIssuedAt(now).setNotBefore(now).setExpirationTime(now + cfg.access_ttl).setJti(randomUUID()).sign(priv);
  ctx.body = { access_token, issued_token_type: AT, token_type: 'Bearer', expires_in: cfg.access_ttl, scope };
}, ['subject_token', 'subject_token_type', 'requested_token_type', 'scope', 'audience', 'resource'], ['audience', 'resource', 'scope']);

provider.use(async (ctx, next) => {
  if (ctx.path === '/device/auth' || ctx.path === '/auth') stats[ctx.path] = (stats[ctx.path] ?? 0) + 1;
  if (ctx.path === '/token') {
    if (cfg.token_delay_ms) await new Promise((r) => setTimeout(r, cfg.token_delay_ms));
    if (cfg.token_fail) { stats.failed = (stats.failed ?? 0) + 1; return fail(ctx, cfg.token_fail.error ?? 'server_error', 'switched on by the lab', cfg.token_fail.status ?? 503); }
  }
  await next();
  if (cfg.scopes_supported && ctx.path === '/.well-known/openid-configuration') ctx.body = { ...ctx.body, scopes_supported: cfg.scopes_supported };
  if (ctx.path === '/token') { const k = `${ctx.oidc?.params?.grant_type?.split(':').pop()} ${ctx.status}${ctx.body?.error ? ' ' + ctx.body.error : ''}`; stats[k] = (stats[k] ?? 0) + 1; }
});
provider.on('server_error', (ctx, e) => console.error(e));
provider.on('grant.error', (ctx, e) => console.error(ctx.oidc?.params?.grant_type, e.error, e.error_description, e.error_detail ?? ''));
provider.on('authorization.error', (ctx, e) => console.error(e.error, e.error_description));

async function seed({ account, scope = '' }) { // a refresh token without any browser
  learn(scope);
  const client = await provider.Client.find(CLIENT_ID);
  const grant = new provider.Grant({ accountId: account, clientId: CLIENT_ID });
  grant.addOIDCScope('openid offline_access');
  grant.addResourceScope(ANY, scope);
  const grantId = await grant.save();
  const token = new provider.RefreshToken({
    client, accountId: account, grantId, gty: 'device_code', scope: `openid offline_access ${scope}`, resource: ANY, rotations: 0, iiat: Math.floor(Date.now() / 1000),
  });
  return { refresh_token: await token.save() };
}

function configure(changes) {
  const unknown = Object.keys(changes).filter((name) => !(name in cfg));
  if (unknown.length) throw new Error(`no such switch: ${unknown.join(', ')}; there are ${Object.keys(cfg).join(', ')}`);
  return Object.assign(cfg, changes);
}

function revoke({ account }) { // every refresh token of an account: what an issuer's administrator can do at any time
  let revoked = 0;
  for (const [k, e] of store) if (k.startsWith('RefreshToken:') && e.v?.accountId === account) { store.delete(k); revoked += 1; }
  dirty = true;
  return { revoked };
}

const LAB = {
  '/lab/stats': () => ({ stats, cfg, entries: store.size }),
  '/lab/config': configure,
  '/lab/seed': seed,
  '/lab/revoke': revoke,
  '/lab/consent': ({ url, account }) => consent(url, account, readFileSync(CA)),
};

async function lab(req, res) {
  const answer = (status, body) => { res.writeHead(status, { 'content-type': 'application/json' }); res.end(JSON.stringify(body)); };
  try {
    const what = LAB[req.url];
    if (!what) return answer(404, { error: `there are ${Object.keys(LAB).join(', ')}` });
    let text = '';
    for await (const piece of req) { text += piece; if (text.length > LONGEST_BODY) return answer(413, { error: 'too long' }); }
    return answer(200, await what(text ? JSON.parse(text) : {}));
  } catch (e) {
    return answer(400, { error: String(e) });
  }
}

const callback = provider.callback();
const { port, hostname } = new URL(ISSUER);
createServer({ cert: readFileSync(CERT), key: readFileSync(KEY) }, (req, res) => (req.url.startsWith('/lab/') ? lab(req, res) : callback(req, res)))
  .listen(Number(port), hostname, () => console.log('issuer', ISSUER));
// the switches without TLS, for programs that have none
if (LAB_PORT) createPlainServer(lab).listen(Number(LAB_PORT), hostname);
