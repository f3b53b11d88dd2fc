"""A host for one agent, in Python: says hello, asks, and keeps what the agent tells by itself. For what moultd does not do (yet), or must not
do in a test. docs/protocol.md is what it is written from."""

import os
import pathlib
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import zlib

TOP = pathlib.Path(__file__).resolve().parents[2]


def _schema():
    """The messages of proto/channel.proto."""
    with tempfile.TemporaryDirectory(prefix="moult-proto-") as directory:
        subprocess.run(["protoc", f"--proto_path={TOP}", f"--python_out={directory}", str(TOP / "proto/manifest.proto"), str(TOP / "proto/channel.proto")],
                       check=True)
        sys.path.insert(0, directory)
        try:
            from proto import channel_pb2
        finally:
            sys.path.remove(directory)
    return channel_pb2


pb = _schema()
MAGIC = b"MLT1"


class AgentError(Exception):
    """An Error message."""

    def __init__(self, error):
        super().__init__(error.text.decode(errors="replace"))
        self.name = pb.ErrorCode.Name(error.code)[len("ERROR_"):]


class AgentHost:
    """One conversation over a connected socket. An agent that begins anew is greeted anew."""

    def __init__(self, sock):
        self.sock, self.answers, self.told, self.next_id, self.sessions = sock, {}, [], 0, 0
        self.nonce, self.peer, self.hello = b"", b"", None
        self.changed, self.closed = threading.Condition(), False
        self._begin()
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._greet, daemon=True).start()

    # -- frames

    def _send(self, message):
        payload = message.SerializeToString()
        head = MAGIC + struct.pack("<II", len(payload), zlib.crc32(payload))
        self.sock.sendall(head + struct.pack("<I", zlib.crc32(head)) + payload)

    def _messages(self):
        data = b""
        while True:
            try:
                more = self.sock.recv(65536)
            except OSError:
                return
            if not more:
                return
            data += more
            while True:
                start = data.find(MAGIC)
                if start < 0:
                    data = data[-3:]
                    break
                data = data[start:]
                if len(data) < 16:
                    break
                length, payload_crc, head_crc = struct.unpack("<III", data[4:16])
                if head_crc != zlib.crc32(data[:12]) or length > 1 << 19:
                    data = data[1:]
                    continue
                if len(data) < 16 + length:
                    break
                payload, data = data[16:16 + length], data[16 + length:]
                if zlib.crc32(payload) == payload_crc:
                    yield pb.Message.FromString(payload)

    # -- the session

    def _begin(self):
        self.nonce, self.established = os.urandom(16), False
        self.next_id = 1 + int.from_bytes(self.nonce[:6], "little")

    def _say_hello(self, settled=False):
        hello = pb.Hello(version_min=1, version_max=1, nonce=self.nonce, echo=self.peer, role=pb.ROLE_HOST, software=b"test", settled=settled)
        self._send(pb.Message(hello=hello))

    def _greet(self):
        while True:
            with self.changed:
                if self.closed:
                    return
                if not self.established:
                    try:
                        self._say_hello()
                    except OSError:
                        return
                self.changed.wait(1)

    def _on_hello(self, hello):
        if self.established and hello.nonce != self.peer:
            self.peer = b""
            self._begin()
        self.peer = hello.nonce
        if hello.echo == self.nonce and not self.established:
            self.established, self.hello = True, hello
            self.sessions += 1
            self._say_hello(settled=True)
        elif not hello.settled:
            self._say_hello(settled=self.established)

    def _read(self):
        for message in self._messages():
            with self.changed:
                if message.WhichOneof("body") == "hello":
                    self._on_hello(message.hello)
                elif message.reply_to:
                    self.answers[message.reply_to] = message
                elif message.WhichOneof("body") == "ping":
                    self._answer_ping(message)
                else:
                    self.told.append(message)
                self.changed.notify_all()
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def _answer_ping(self, message):
        self._send(pb.Message(id=self._number(), reply_to=message.id, ack=pb.Ack()))

    def _number(self):
        self.next_id += 1
        return self.next_id - 1

    # -- for tests

    def wait_session(self, count=1, timeout=60):
        """Until that many sessions have begun."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.sessions >= count and self.established, timeout):
                raise TimeoutError(f"the agent has begun {self.sessions} sessions, not {count}")

    def ask(self, timeout=60, **body):
        """The answer's body; AgentError for an error."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.established, timeout):
                raise TimeoutError("there is no session with the agent")
            number = self._number()
            self._send(pb.Message(id=number, **body))
            if not self.changed.wait_for(lambda: number in self.answers or self.closed, timeout) or number not in self.answers:
                raise TimeoutError(f"the agent has not answered {list(body)}")
            answer = self.answers.pop(number)
        if answer.WhichOneof("body") == "error":
            raise AgentError(answer.error)
        return getattr(answer, answer.WhichOneof("body"))

    def freeze(self, ident, action, lease_ms=0, no_hooks=False, **options):
        return self.ask(freeze=pb.Freeze(freeze_id=ident, action=pb.FreezeAction.Value(f"FREEZE_{action}"), lease_ms=lease_ms, no_hooks=no_hooks), **options)

    def wait_freeze(self, ident, phase, timeout=60):
        """Until the agent has told by itself that it is in this phase; that state."""
        wanted = pb.FreezePhase.Value(f"FREEZE_PHASE_{phase}")

        def found():
            return [m.freeze_state for m in self.told
                    if m.WhichOneof("body") == "freeze_state" and m.freeze_state.freeze_id == ident and m.freeze_state.phase == wanted]
        with self.changed:
            if not self.changed.wait_for(found, timeout):
                raise TimeoutError(f"no {phase}; told: {self.told}")
            return found()[-1]

    def close(self):
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()


def connect(path):
    """To QEMU's end of a virtio port."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    return AgentHost(sock)
