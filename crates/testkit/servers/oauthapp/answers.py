"""What the vault server with its secrets engine answers, case by case, compared with what the real engine 3.2.0 answered.

usage: python3 answers.py BED ROOT [EXPECTED]     inside a test bed; BED is its folder, ROOT its Debian root
Prints one line a case, `case | status | answer`, with what changes from run to run masked; with EXPECTED it prints
only the differences, and exits 1 if there are any. The bed is left as it was found.
"""

import base64
import json
import re
import socket
import subprocess
import sys
import time

BED, ROOT = sys.argv[1], sys.argv[2]
VAULT, ADMIN = "https://vault.mtk.test:8200/v1", "http://127.0.1.13:8202/v1"
LAB = "http://127.0.1.12:8444/lab/"
ISSUER, ROLE, ACCOUNT = "dune", "production", "dunepro"
ROBOT = f"{ACCOUNT}/managedtokens/mtk.mtk.test"
MOUNT = f"kerberos-{ISSUER}_{ROLE}"
CREDS, STS = f"{VAULT}/secret/oauth/creds/{ISSUER}", f"{VAULT}/secret/oauth/sts/{ISSUER}"
MINE = f"{ROBOT}:{ROLE}"
CACHE = "FILE:/tmp/answers.cc"
ROOT_TOKEN = open(f"{BED}/vault/root.token").read()
MASKED = re.compile("^(access_token|id|accessor|creation_time|expire_time|issue_time|entity_id|state|auth_url|ttl)$")

lines = []
body = b""


def curl(*words):
    """curl from the Debian root, so that the host needs none: (status, body)."""
    command = ["chroot", ROOT, "env", f"KRB5CCNAME={CACHE}", "curl", "-sS", "-m", "60", "-w", "\n%{http_code}"]
    command += ["--resolve", "other.mtk.test:8200:127.0.1.13", *words]
    out = subprocess.run(command, capture_output=True, check=False).stdout
    answer, _, status = out.rpartition(b"\n")
    return status.decode(), answer


def control(**request):
    """A command to the bed."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(f"{BED}/control.sock")
        s.sendall(json.dumps(request).encode() + b"\n")
        reply = json.loads(s.makefile().readline())
    if "error" in reply:
        raise SystemExit(f"{request}: {reply['error']}")
    return reply["ok"]


def root(method, path, content=None):
    return control(do="vault", method=method, path=f"/v1/{path}", body=content)


def drop_nulls(value):
    if isinstance(value, dict):
        return {k: drop_nulls(v) for k, v in value.items() if v is not None}
    return [drop_nulls(v) for v in value if v is not None] if isinstance(value, list) else value


def count_secret(about):
    """The length of a refresh token in place of the token."""
    if about and about.get("oauth2_refresh_token") is not None:
        about["oauth2_refresh_token"] = str(len(about["oauth2_refresh_token"]))


def short(text):
    """An answer without what differs each time."""
    try:
        answer = json.loads(text)
    except ValueError:
        return text.decode(errors="replace")[:300]
    warnings = answer.get("warnings")
    if answer.get("errors") is not None:
        seen = {"errors": answer["errors"]}
    elif answer.get("auth"):
        auth = {k: answer["auth"].get(k) for k in ("policies", "metadata", "lease_duration", "renewable", "orphan")}
        count_secret(auth["metadata"])
        seen = {"auth": auth, "warnings": warnings}
    elif answer.get("data"):
        data = {k: "…" if MASKED.match(k) else v for k, v in answer["data"].items()}
        count_secret(data.get("meta"))
        seen = {"data": data, "warnings": warnings}
    else:
        seen = {"warnings": warnings}
    return json.dumps(drop_nulls(seen), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def note(line):
    lines.append(line.strip())


def say(name, *words, brief=False):
    """Asks, and notes the answer; `brief` notes the status alone."""
    global body
    status, body = curl(*words)
    note(f"{name} | {status}" if brief else f"{name} | {status} | {short(body)}")


def at(*path):
    value = json.loads(body)
    for name in path:
        value = value[name]
    return value


def token():
    return at("auth", "client_token")


def access():
    return at("data", "access_token")


def note_claims():
    part = access().split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    seen = {"aud": claims["aud"], "scope": claims["scope"], "life": claims["exp"] - claims["iat"]}
    note(json.dumps(seen, separators=(",", ":")))


def note_same(before, same):
    if (before == access()) == same:
        note("same token" if same else "new token")


def h(secret):
    return ["-H", f"X-Vault-Token: {secret}"]


def lab(what, content):
    curl("-d", json.dumps(content), LAB + what)


NEGOTIATE = ["--negotiate", "-u", ":", "--service-name", "host", "-X", "POST", "-d", ""]


def login(name, mount):
    say(name, *NEGOTIATE, f"{VAULT}/auth/{mount}/login")


def ap_req(url):
    """The Authorization header that curl sends to `url`."""
    command = ["chroot", ROOT, "env", f"KRB5CCNAME={CACHE}", "curl", "-sSv", "-o", "/dev/null", *NEGOTIATE, url]
    seen = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    return re.search(r"^> authorization: (\S+ \S+)", seen, re.M | re.I).group(1)


def kerberos():
    note("# kerberos login")
    login("login", MOUNT)
    first = token()
    used = ap_req(f"{VAULT}/auth/{MOUNT}/login")
    url = f"{VAULT}/auth/{MOUNT}/login"
    say("replayed AP-REQ", "-H", f"Authorization: {used}", "-X", "POST", "-d", "", url)
    say("no header, POST", "-X", "POST", "-d", "", url)
    say("no header, GET", url)
    say("garbage", "-H", "Authorization: Negotiate AAAA", "-X", "POST", "-d", "", url)
    say("ticket for another service", "-k", *NEGOTIATE, f"https://other.mtk.test:8200/v1/auth/{MOUNT}/login")
    login("unknown mount", f"kerberos-{ISSUER}_nosuchrole")
    say("JSON body {}", *NEGOTIATE[:-1], "{}", "-H", "Content-Type: application/json", url)
    fresh = ap_req(f"{VAULT}/sys/nosuch")
    say("AP-REQ in the body only", "-d", json.dumps({"authorization": fresh}), url)
    lower = fresh.replace("Negotiate", "negotiate")
    say("lower-case negotiate", "-H", f"Authorization: {lower}", "-X", "POST", "-d", "", url)
    say("the same, as it should be", "-H", f"Authorization: {fresh}", "-X", "POST", "-d", "", url)
    say("mount name in capitals", *NEGOTIATE, f"{VAULT}/auth/{MOUNT.upper()}/login")
    control(do="stop", server="ldap")
    login("LDAP down", MOUNT)
    control(do="start", server="ldap")
    return first


def tokens(first):
    note("# tokens")
    create, own = f"{VAULT}/auth/token/create", f"{VAULT}/auth/token"
    say("child 7d", *h(first), "-d", '{"ttl":"604800s","renewable":"false"}', create)
    child = token()
    for name, content in [
        ("child 40d", '{"ttl":"3456000s","renewable":"false"}'),
        ("child with duration 7d", '{"ttl":"7d"}'),
        ("child ttl -1s", '{"ttl":"-1s"}'),
        ("child ttl nonsense", '{"ttl":"soon"}'),
        ("child no_parent", '{"no_parent":true}'),
        ("child policy root", '{"policies":["root"]}'),
        ("child 3s", '{"ttl":"3s"}'),
    ]:
        say(name, *h(first), "-d", content, create)
    say("its child 600s", *h(token()), "-d", '{"ttl":"600s"}', create)
    orphaned = token()
    say("batch", *h(first), "-d", '{"type":"batch","ttl":"60s"}', create)
    say("wrapped", *h(first), "-H", "X-Vault-Wrap-TTL: 60", "-d", '{"ttl":"60s"}', create)
    say("with a namespace header", *h(first), "-H", "X-Vault-Namespace: x", f"{own}/lookup-self")
    say("create-orphan", *h(first), "-d", "{}", f"{own}/create-orphan")
    say("grandchild", *h(child), "-d", '{"ttl":"600s"}', create)
    grandchild = token()
    say("lookup-self child", *h(child), f"{own}/lookup-self")
    say("lookup-self login", *h(first), f"{own}/lookup-self")
    say("renew-self", *h(child), "-X", "POST", f"{own}/renew-self")
    say("revoke-self child", *h(child), "-X", "POST", f"{own}/revoke-self")
    say("grandchild of revoked", *h(grandchild), f"{own}/lookup-self")
    say("parent still there", *h(first), f"{own}/lookup-self")
    say("no token", f"{CREDS}/{MINE}")
    say("unknown token", *h("s.AAAAAAAAAAAAAAAAAAAAAAAA"), f"{CREDS}/{MINE}")
    return orphaned


def bearers(first):
    note("# bearer tokens")
    mine, shared = f"{CREDS}/{MINE}", f"{STS}/{MINE}"
    say("creds", *h(first), f"{mine}?minimum_seconds=60")
    before = access()
    note_claims()
    say("creds again", *h(first), f"{mine}?minimum_seconds=60")
    note_same(before, True)
    # a second later: the issuer's clock counts whole seconds
    time.sleep(1.1)
    say("creds min=3599 (refresh)", *h(first), f"{mine}?minimum_seconds=3599")
    note_same(before, False)
    say("creds min=7200", *h(first), f"{mine}?minimum_seconds=7200")
    say("creds min=abc", *h(first), f"{mine}?minimum_seconds=abc")
    say("creds unknown parameter", *h(first), f"{mine}?foo=1")
    say("creds %2F", *h(first), f"{CREDS}/{MINE.replace('/', '%2F')}")
    both = "audiences=https://a.example,https://b.example"
    say("sts scopes+audiences", *h(first), f"{shared}?minimum_seconds=60&scopes=storage.read:/dune,compute.read&{both}")
    before = access()
    note_claims()
    say("sts same again", *h(first), f"{shared}?minimum_seconds=60&scopes=storage.read:/dune,compute.read&{both}")
    note_same(before, True)
    say("sts other order", *h(first), f"{shared}?minimum_seconds=60&scopes=compute.read,storage.read:/dune&{both}")
    note_same(before, False)
    say("sts audiences with a blank", *h(first), f"{shared}?audiences=https://a.example%20https://b.example")
    note_claims()
    say("sts scopes with a blank", *h(first), f"{shared}?scopes=storage.read:/dune%20compute.read")
    note_claims()
    say("sts nothing asked", *h(first), shared)
    note_claims()
    say("sts narrower path", *h(first), f"{shared}?scopes=storage.create:/dune/scratch/x")
    note_claims()
    say("sts scope not granted", *h(first), f"{shared}?scopes=storage.modify:/")
    say("sts audience not allowed", *h(first), f"{shared}?audiences=https://forbidden.example")
    say("sts DELETE", *h(first), "-X", "DELETE", shared)
    say("creds POST with a kerberos token", *h(first), "-d", '{"server":"dune","refresh_token":"x"}', mine)
    say("someone else's", *h(first), f"{CREDS}/mu2epro/x/y:{ROLE}")
    say("other role", *h(first), f"{CREDS}/{ROBOT}:default")
    login("login, role default", f"kerberos-{ISSUER}_default")
    default = token()
    say("never stored", *h(default), f"{CREDS}/{ROBOT}:default")
    say("never stored, sts", *h(default), f"{STS}/{ROBOT}:default?scopes=compute.read")
    say("secret path DELETE, nothing there", *h(default), "-X", "DELETE", f"{CREDS}/{ROBOT}:default")


def servers(first):
    note("# refresh tokens, as root")
    there, mine = f"{CREDS}/t:{ROLE}", f"{CREDS}/{MINE}"
    for name, content in [
        ("POST without server", {"refresh_token": "x"}),
        ("POST unknown server", {"server": "nosuch", "refresh_token": "x"}),
        ("POST bad refresh token", {"server": "dune", "refresh_token": "x"}),
        ("POST no refresh token", {"server": "dune", "grant_type": "refresh_token"}),
    ]:
        say(name, *h(ROOT_TOKEN), "-d", json.dumps(content), there)
    say("name with :/", *h(ROOT_TOKEN), f"{CREDS}/a:/b")
    say("read servers/dune", *h(ROOT_TOKEN), f"{ADMIN}/secret/oauth/servers/dune")
    entry = at("data")
    say("no such path", *h(ROOT_TOKEN), f"{ADMIN}/secret/oauth/nonsense")
    note("# server entry gone")
    say("delete", *h(ROOT_TOKEN), "-X", "DELETE", f"{ADMIN}/secret/oauth/servers/dune")
    say("read, refresh needed", *h(first), f"{mine}?minimum_seconds=3600")
    say("read, still good", *h(first), f"{mine}?minimum_seconds=60")
    back = {k: entry[k] for k in ("provider", "provider_options", "client_id")}
    root("POST", "secret/oauth/servers/dune", {**back, "client_secret": "of-no-use-outside"})
    time.sleep(1.1)
    say("read, server back", *h(first), f"{mine}?minimum_seconds=3599")


def trouble(first):
    note("# issuer in trouble")
    mine, shared = f"{CREDS}/{MINE}", f"{STS}/{MINE}"
    lab("config", {"token_fail": {"status": 503}})
    say("503, refresh needed", *h(first), f"{mine}?minimum_seconds=3600")
    say("503, still good", *h(first), f"{mine}?minimum_seconds=60")
    say("503, sts", *h(first), f"{shared}?scopes=compute.create")
    lab("config", {"token_fail": {"status": 400, "error": "invalid_grant"}})
    say("invalid_grant, refresh needed", *h(first), f"{mine}?minimum_seconds=3600")
    say("invalid_grant, still good", *h(first), f"{mine}?minimum_seconds=60")
    lab("config", {"token_fail": None, "access_ttl": 30})
    say("healed, 30 s tokens", *h(first), f"{mine}?minimum_seconds=3599")
    say("30 s token, min 20", *h(first), f"{mine}?minimum_seconds=20")
    say("30 s token, min 25, sts", *h(first), f"{shared}?minimum_seconds=25&scopes=compute.read")
    lab("config", {"access_ttl": 3600, "rotate": True})
    say("rotation on", *h(first), f"{mine}?minimum_seconds=3500")
    say("rotation on, again", *h(first), f"{mine}?minimum_seconds=3600")
    lab("config", {"rotate": False})
    note("# slash rule")
    for allow, name in [(False, "read, slashes not allowed"), (True, "read, slashes allowed")]:
        control(do="allow-slashes", issuer=ISSUER, role=ROLE, allow=allow)
        say(name, *h(first), f"{mine}?minimum_seconds=60")


def oidc():
    note("# oidc")
    nonce, base = "nonce-" * 6, f"{VAULT}/auth/oidc-{ISSUER}/oidc"
    redirect, flow = f"{base}/callback", {}

    def start(name, role, to=redirect):
        say(name, "-d", json.dumps({"role": role, "client_nonce": nonce, "redirect_uri": to}), f"{base}/auth_url")
        flow.update(json.loads(body).get("data") or {})

    def poll(name, with_nonce=nonce):
        say(name, "-d", json.dumps({"state": flow["state"], "client_nonce": with_nonce}), f"{base}/poll")

    def agree():
        lab("consent", {"url": flow["auth_url"], "account": ACCOUNT})

    start("unknown role", "nosuch")
    start("wrong redirect", ROLE, "https://x.example/cb")
    say("no nonce", "-d", json.dumps({"role": ROLE, "redirect_uri": redirect}), f"{base}/auth_url")
    say("unknown issuer", "-d", "{}", f"{VAULT}/auth/oidc-nosuch/oidc/auth_url")
    start("start", ROLE)
    poll("pending")
    poll("pending at once again")
    poll("wrong nonce", "x")
    poll("after wrong nonce")
    start("start", ROLE.upper())
    agree()
    poll("done (upper-case role)")
    person = token()
    poll("collected twice")
    say("lookup-self of the OIDC login", *h(person), f"{VAULT}/auth/token/lookup-self")
    say("renew-self of it", *h(person), "-X", "POST", f"{VAULT}/auth/token/renew-self")
    bad = {"refresh_token": "x"}
    say("write below another user", *h(person), "-d", json.dumps({"server": "dune", **bad}), f"{CREDS}/mu2epro:{ROLE}")
    say("write with another server", *h(person), "-d", json.dumps({"server": "mu2e", **bad}), f"{CREDS}/{ACCOUNT}:{ROLE}")
    say("read below own name", *h(person), f"{CREDS}/{MINE}?minimum_seconds=60")
    say("the same, other role", *h(person), f"{CREDS}/{ROBOT}:default")
    say("delete below own name", *h(person), "-X", "DELETE", f"{CREDS}/{ACCOUNT}/nothing:{ROLE}")
    for switch, name in [("no_credkey", "no credclaim"), ("no_refresh", "no refresh token")]:
        lab("config", {switch: True})
        start("start", ROLE)
        agree()
        poll(name)
        lab("config", {switch: False})


def limits(first, orphaned):
    note("# rate limit")
    own = [*h(first), f"{VAULT}/auth/token/lookup-self"]
    root("POST", "sys/quotas/rate-limit/try", {"rate": 3, "interval": "2s", "block_interval": "2s"})
    for n in range(1, 5):
        say(f"request {n}", *own, brief=True)
    login("blocked login", MOUNT)
    _, head = curl("-D", "-", "-o", "/dev/null", *own)
    told = [line for line in head.decode().splitlines() if re.match("HTTP|retry|.*ratelimit", line, re.I)]
    note(" ".join(told))
    say("health while blocked", f"{VAULT}/sys/health", brief=True)
    time.sleep(4.5)
    root("DELETE", "sys/quotas/rate-limit/try")
    say("after", *own, brief=True)
    say("child of the 3 s token", *h(orphaned), f"{VAULT}/auth/token/lookup-self")
    note("# sealed")
    control(do="seal")
    say("read", *h(first), f"{CREDS}/{MINE}")
    login("login", MOUNT)
    say("auth_url", "-d", "{}", f"{VAULT}/auth/oidc-{ISSUER}/oidc/auth_url")
    say("health", f"{VAULT}/sys/health", brief=True)
    control(do="unseal")
    say("unsealed, same token", *h(first), f"{CREDS}/{MINE}?minimum_seconds=60")
    note("# end of a tree")
    say("child", *h(first), "-d", '{"ttl":"604800s"}', f"{VAULT}/auth/token/create", brief=True)
    child = token()
    say("revoke-self login", *h(first), "-X", "POST", f"{VAULT}/auth/token/revoke-self")
    time.sleep(0.2)
    say("child of revoked login", *h(child), f"{CREDS}/{MINE}")


def main():
    note("# onboarding")
    control(do="device-flow", issuer=ISSUER, role=ROLE, account=ACCOUNT, credkey=ROBOT)
    note("onboard ok")
    keytab = f"/var/lib/krb5kdc/keytabs/{ACCOUNT}.keytab"
    subprocess.run(["chroot", ROOT, "kinit", "-c", CACHE, "-k", "-t", keytab, ROBOT], check=True)
    try:
        first = kerberos()
        orphaned = tokens(first)
        bearers(first)
        servers(first)
        trouble(first)
        oidc()
        limits(first, orphaned)
    finally:
        subprocess.run(["chroot", ROOT, "kdestroy", "-c", CACHE], check=False)
    control(do="onboard", issuer=ISSUER, role=ROLE, account=ACCOUNT, credkey=ROBOT)
    if len(sys.argv) < 4:
        print("\n".join(lines))
        return 0
    expected = [line for line in open(sys.argv[3]).read().splitlines() if not line.startswith("//")]
    wrong = 0
    for n in range(max(len(lines), len(expected))):
        got, want = (them[n] if n < len(them) else "(nothing)" for them in (lines, expected))
        if got != want:
            wrong += 1
            print(f"expected  {want}\ngot       {got}")
    cases = sum(" | " in line for line in lines)
    print(f"{cases} answers, {wrong} differences")
    return 1 if wrong else 0


sys.exit(main())
