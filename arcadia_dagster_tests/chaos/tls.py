"""HTTPS before a server on loopback that speaks none: with a certificate that clients trust, with another one, or with a handshake that
breaks off. Knows nothing of what is asked or answered.
"""

import contextlib
import ipaddress
import select
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

UNTRUSTED, BROKEN = "untrusted", "handshake"


class Front:
    """Listens on a port of its own, and hands what comes by HTTPS on to a server.

    `spoil` says of the next connections, one by one, how their handshake is to fail, `always` of every connection after those; None is not
    at all. `spoiled` is called when one has. Who trusts the certificates in the file `trusted` trusts this server.
    """

    def __init__(self, server_port, folder, spoiled):
        self.server_port, self.spoil, self.always, self.spoiled = server_port, [], None, spoiled
        self.trusted = folder / "trusted.pem"
        self._good, self._bad = _context(self.trusted), _context(folder / "untrusted.pem")
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen(self):
        with contextlib.suppress(OSError):  # until it is closed
            while True:
                connection, _ = self._listener.accept()
                how = self.spoil.pop(0) if self.spoil else self.always
                threading.Thread(target=self._serve, args=(connection, how), daemon=True).start()

    def _serve(self, connection, how):
        with connection, contextlib.suppress(OSError):  # of which SSLError is one: the other side does not want to go on
            if how is not None:
                self.spoiled()
            if how == BROKEN:
                connection.recv(65536)  # all of it, as what is left unread would make the end a reset
                connection.sendall(b"\x16\x03\x03\x00\x7a\x02\x00")  # the beginning of what answers
                return
            with (
                (self._bad if how == UNTRUSTED else self._good).wrap_socket(connection, server_side=True) as outer,
                socket.create_connection(("127.0.0.1", self.server_port)) as inner,
            ):
                _carry(outer, inner)


def _carry(outer, inner):
    """What each side says to the other one, until one has no more to say."""
    while True:
        ready = [outer] if outer.pending() else select.select([outer, inner], [], [])[0]
        for here, there in ((outer, inner), (inner, outer)):
            if here in ready:
                said = here.recv(65536)
                if not said:
                    return
                there.sendall(said)


def _context(file):
    """For a server, with a new certificate that nobody but itself vouches for; the file holds it, and its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "simulated provider")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context
