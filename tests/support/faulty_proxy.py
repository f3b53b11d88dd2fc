"""An HTTP proxy in front of a server that does to answers what networks and services do: a test's rule decides."""

import datetime
import email.utils
import http.client
import http.server
import math
import re
import ssl
import threading
import time


class FaultyProxy:
    """rule(method, path, n) -> None (pass it on) or "500", "503", "close", "cut", "flip", "hang"; n counts the requests
    for this method and path, from 1. Signatures stay valid: the Host header is passed on as it came.
    `copies` are the paths of objects that were copied, `headers` those of all requests. With @tls, the files of a
    certificate and of its key, it speaks TLS."""

    def __init__(self, port, rule=lambda method, path, n: None, tls=None):
        self.upstream, self.rule, self.seen, self.lock = port, rule, {}, threading.Lock()
        self.over, self.aged, self.copies, self.headers = threading.Event(), None, [], []
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with proxy.lock:
                    key = (self.command, self.path)
                    n = proxy.seen[key] = proxy.seen.get(key, 0) + 1
                    proxy.headers.append(dict(self.headers))
                    if "x-amz-copy-source" in self.headers:
                        proxy.copies.append(self.path)
                fault = proxy.rule(self.command, self.path, n)
                if fault in ("500", "503"):
                    text = b"<?xml version='1.0'?><Error><Code>SlowDown</Code></Error>"
                    self.send_response(int(fault))
                    self.send_header("Content-Length", str(len(text)))
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(text)
                    return
                if fault == "hang":
                    proxy.over.wait(120)
                if fault in ("close", "hang"):
                    self.close_connection = True
                    return
                self.pass_on(body, fault)

            def pass_on(self, body, fault):
                upstream = http.client.HTTPConnection("127.0.0.1", proxy.upstream, timeout=60)
                upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    upstream.putheader(name, value)
                upstream.endheaders(body)
                answer = upstream.getresponse()
                data = answer.read()
                upstream.close()
                if fault == "flip" and data:
                    data = data[:-1] + bytes([data[-1] ^ 1])
                if b"<ListBucketResult" in data:
                    data = re.sub(rb"(?<=<LastModified>)[^<]*", proxy.older_in_list, data)
                self.send_response(answer.status)
                if answer.getheader("Last-Modified"):
                    at = email.utils.parsedate_to_datetime(answer.getheader("Last-Modified")).timestamp()
                    self.send_header("Last-Modified", email.utils.formatdate(proxy.older(at), usegmt=True))
                length = answer.getheader("Content-Length", 0) if self.command == "HEAD" else len(data)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                if fault == "cut":
                    self.wfile.write(data[:len(data) // 2])
                    self.close_connection = True
                elif self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_PUT = do_HEAD = do_DELETE = handle_one

            def log_message(self, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, request, client_address):
                """A client that went, or that does not trust us."""

        self.server = Server(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            # The handshake is the handler's: one that fails, or hangs, disturbs no other.
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def age(self, seconds):
        """What is there now is told to be older by so much; what is put or copied from now on is not."""
        before = math.ceil(time.time())
        self.aged = (before, seconds)
        while time.time() <= before:  # the service rounds up to whole seconds
            time.sleep(0.02)

    def older(self, at):
        return at - self.aged[1] if self.aged and at <= self.aged[0] else at

    def older_in_list(self, match):
        at = datetime.datetime.fromisoformat(match[0].decode().replace("Z", "+00:00"))
        at = datetime.datetime.fromtimestamp(self.older(at.timestamp()), datetime.timezone.utc)
        return at.strftime("%Y-%m-%dT%H:%M:%S.000Z").encode()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.over.set()
        self.server.shutdown()
        self.server.server_close()
