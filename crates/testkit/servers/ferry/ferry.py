"""FERRY's getUserInfo over TLS, as its users see it: a client certificate of the bed's CA or a bearer token opens it.

Arguments: certificate, key, CA, a file of accounts (JSON, read anew at every question), a log of who asked.
An account that is a number has that UID; one that is a text makes the server misbehave as the text says.
Prints the port it listens on.
"""

import http.server
import json
import ssl
import sys
import time
import urllib.parse

CERT, KEY, CA, ACCOUNTS, LOG = sys.argv[1:6]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body, kind="application/json"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if status == 302:
            self.send_header("Location", "https://127.0.0.1:1/elsewhere")
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        url = urllib.parse.urlparse(self.path)
        account = urllib.parse.parse_qs(url.query).get("username", [""])[0]
        peer = self.connection.getpeercert()
        subject = dict(pair[0] for pair in peer["subject"]).get("commonName") if peer else None
        bearer = self.headers.get("Authorization", "")
        who = subject or ("bearer" if bearer.startswith("Bearer ey") else None)
        with open(LOG, "a") as log:
            log.write(f"{who} {url.path} {account}\n")
        if url.path != "/getUserInfo":
            return self.reply(404, b"no such API", "text/plain")
        if who is None:
            return self.reply(401, {"ferry_status": "failure", "ferry_error": ["not authorized"], "ferry_output": []})
        with open(ACCOUNTS) as accounts:
            known = json.load(accounts).get(account)
        output = {
            "expirationdate": "2038-01-01T00:00:00Z",
            "fullname": account,
            "groupaccount": True,
            "status": True,
            "uid": known,
            "vopersonid": "",
        }
        if known is None:
            return self.reply(200, {"ferry_status": "failure", "ferry_error": ["user does not exist"], "ferry_output": []})
        if known == "error":
            return self.reply(500, b"oops", "text/plain")
        if known == "html":
            return self.reply(200, b"<html>maintenance</html>", "text/html")
        if known == "elsewhere":
            return self.reply(302, b"")
        if known == "endless":
            self.send_response(200)
            self.send_header("Content-Length", str(1 << 40))
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b" " * 65536)
            except OSError:
                return None
        if known == "silent":
            time.sleep(20)
        return self.reply(200, {"ferry_status": "success", "ferry_error": [], "ferry_output": output})


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERT, KEY)
context.load_verify_locations(CA)
context.verify_mode = ssl.CERT_OPTIONAL
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
