"""A byte relay between two sockets that a test can cut, hold, and watch: cables for tests of lost connections."""

import selectors
import socket
import threading


class Relay:
    """Listens (a Unix path, or a TCP port of its choosing) and connects each client on to the target.

    cut() closes every present connection; with `refuse`, later ones are closed at once until mend() is called.
    cut_after(n) does the same by itself once n bytes have gone towards the client (from the target)."""

    def __init__(self, target, listen=None):
        self.target = target
        family = socket.AF_UNIX if listen else socket.AF_INET
        self.server = socket.socket(family)
        self.server.bind(str(listen) if listen else ("127.0.0.1", 0))
        self.server.listen(16)
        self.address = listen or self.server.getsockname()
        self.pairs, self.refuse, self.limit = [], False, None
        self.to_client = self.to_target = self.cuts = 0
        self.changed = threading.Condition()
        self.wake_read, self.wake_write = socket.socketpair()
        self.stopped = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    # -- for tests

    def cut(self, refuse=False):
        with self.changed:
            self.refuse = refuse
            self._close_all()
        self._wake()

    def cut_after(self, count, refuse=False, direction="to_client"):
        """Once that many further bytes have gone that way."""
        with self.changed:
            self.limit = (direction, getattr(self, direction) + count, refuse)

    def mend(self):
        with self.changed:
            self.refuse, self.limit = False, None

    def wait_bytes(self, count, direction="to_client", timeout=60):
        """Until that many bytes in all have gone that way."""
        with self.changed:
            if not self.changed.wait_for(lambda: getattr(self, direction) >= count, timeout):
                raise TimeoutError(f"only {getattr(self, direction)} of {count} bytes went {direction}")

    def wait_cut(self, timeout=60):
        with self.changed:
            if not self.changed.wait_for(lambda: self.cuts > 0, timeout):
                raise TimeoutError("the relay was never cut")

    def close(self):
        with self.changed:
            self.stopped = True
            self._close_all()
        self._wake()
        self.thread.join(10)
        self.server.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    # -- the thread

    def _wake(self):
        self.wake_write.send(b"x")

    def _close_all(self):
        if self.pairs:
            self.cuts += 1
        for pair in self.pairs:
            for sock in pair:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self.changed.notify_all()

    def _accept(self):
        client, _ = self.server.accept()
        with self.changed:
            if self.refuse:
                client.close()
                return
        is_path = not isinstance(self.target, tuple)
        far = socket.socket(socket.AF_UNIX if is_path else socket.AF_INET)
        try:
            far.connect(str(self.target) if is_path else self.target)
        except OSError:
            client.close()
            far.close()
            return
        with self.changed:
            self.pairs.append((client, far))
        for a, b, way in ((client, far, "to_target"), (far, client, "to_client")):
            threading.Thread(target=self._pump, args=(a, b, way, (client, far)), daemon=True).start()

    def _pump(self, source, sink, way, pair):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
                with self.changed:
                    setattr(self, way, getattr(self, way) + len(data))
                    if self.limit and self.limit[0] == way and getattr(self, way) >= self.limit[1]:
                        self.refuse, self.limit = self.limit[2], None
                        self._close_all()
                    self.changed.notify_all()
        except OSError:
            pass
        # The end of one direction is the end of the connection, as for a serial line.
        for sock in pair:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        with self.changed:
            if pair in self.pairs:
                self.pairs.remove(pair)

    def _run(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self.server, selectors.EVENT_READ)
            selector.register(self.wake_read, selectors.EVENT_READ)
            while not self.stopped:
                for key, _ in selector.select():
                    if key.fileobj is self.wake_read:
                        self.wake_read.recv(64)
                    else:
                        self._accept()
