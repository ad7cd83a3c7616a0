"""A Vault server with a login by SSH keys in front of the bed's own: vault.md 5.5, whose plugin no registry has.

usage: ssh_vault.py CERTIFICATE KEY CA ROOT_TOKEN_FILE REGISTERED...   (REGISTERED: base64 of a public key)
Checks what it is told with paramiko, as another implementation than ours. Writes its port to standard output.
"""
import base64, http.server, json, secrets, ssl, sys, urllib.error, urllib.request
import paramiko

certificate, key, ca, root_token, *registered = sys.argv[1:]
real = 'https://vault.mtk.test:8200'
trust = ssl.create_default_context(cafile=ca)
nonces = set()


def forward(method, path, headers, body):
    request = urllib.request.Request(real + path, data=body or None, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, context=trust) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def login(said):
    nonce = base64.b64decode(said['nonce'])
    if nonce not in nonces:
        return 400, {'errors': ['nonce is unknown']}
    nonces.discard(nonce)
    kind, blob, name = said['public_key'].split()
    if blob not in registered:
        return 400, {'errors': [f'{name} is not registered for {said["role"]}']}
    public = paramiko.PKey.from_type_string(kind, base64.b64decode(blob))
    message = paramiko.Message()
    message.add_string(kind)
    message.add_string(base64.b64decode(said['signature']))
    message.rewind()
    if not public.verify_ssh_sig(nonce, message):
        return 400, {'errors': ['signature is wrong']}
    if said['metadata'] != {'issuer': 'dune', 'group': 'default'} or said['role'] != 'alice':
        return 400, {'errors': ['metadata is wrong']}
    token = open(root_token).read().strip()
    body = json.dumps({'ttl': '2419200s', 'no_parent': True}).encode()
    status, answer = forward('POST', '/v1/auth/token/create', {'X-Vault-Token': token}, body)
    return status, json.loads(answer)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def answer(self):
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        if self.path == '/v1/auth/ssh/nonce':
            nonce = secrets.token_urlsafe()
            nonces.add(nonce.encode())
            status, said = 200, json.dumps({'data': {'nonce': nonce}}).encode()
        elif self.path == '/v1/auth/ssh/login':
            status, said = login(json.loads(body))
            said = json.dumps(said).encode()
        else:
            wanted = {'X-Vault-Token', 'Authorization'}
            status, said = forward(self.command, self.path, {k: v for k, v in self.headers.items() if k.title() in wanted}, body)
        self.send_response(status)
        self.send_header('Content-Length', str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_POST = do_PUT = answer

    def log_message(self, *_):
        pass


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server = http.server.ThreadingHTTPServer(('127.0.1.13', 0), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
