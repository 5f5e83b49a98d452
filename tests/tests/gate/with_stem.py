"""Python's stem against the gate: what is allowed works, what is not raises stem's own error, and the connection goes on.

Arguments: control socket, SOCKS socket, the page's address, the secret. Prints "ok".
"""

import queue
import subprocess
import sys

import stem
from stem.control import Controller, EventType, Listener

control, socks, page, secret = sys.argv[1:]
HIDDEN = "0" * 40


def raised(error, call):
    try:
        result = call()
    except error as found:
        assert type(found) is error, found
    else:
        raise AssertionError(f"{error.__name__} was expected, not {result!r}")


with Controller.from_socket_file(control) as stranger:
    raised(stem.OperationFailed, lambda: stranger.get_info("version"))
with Controller.from_socket_file(control) as stranger:
    raised(stem.connection.IncorrectPassword, lambda: stranger.authenticate(password="wrong"))

controller = Controller.from_socket_file(control)
controller.authenticate(password=secret)

REFUSED = [
    (stem.InvalidArguments, lambda: controller.get_info("address")),
    (stem.InvalidArguments, lambda: controller.get_info("config-text")),
    (stem.InvalidArguments, lambda: controller.get_info("entry-guards")),
    (stem.InvalidArguments, lambda: list(controller.get_network_statuses())),
    (stem.InvalidArguments, lambda: list(controller.get_microdescriptors())),
    (stem.InvalidArguments, lambda: controller.get_streams()),
    (stem.InvalidArguments, lambda: controller.get_conf("DataDirectory")),
    (stem.ProtocolError, lambda: controller.set_conf("Bridge", "192.0.2.1:80")),
    (stem.ProtocolError, lambda: controller.new_circuit()),
    (stem.ProtocolError, lambda: controller.map_address({"a.example": "b.example"})),
    (stem.ProtocolError, lambda: controller.create_ephemeral_hidden_service(80)),
    (stem.ProtocolError, lambda: controller.add_event_listener(print, EventType.GUARD)),
    (stem.InvalidArguments, lambda: controller.signal(stem.Signal.SHUTDOWN)),
    (stem.InvalidArguments, lambda: controller.signal(stem.Signal.RELOAD)),
]
for error, call in REFUSED:
    raised(error, call)
    assert controller.is_authenticated()
    assert str(controller.get_version()) == "0.4.9.0"

assert "PROGRESS=100" in controller.get_info("status/bootstrap-phase")
assert controller.get_listeners(Listener.SOCKS) == [("127.0.0.1", 9150)]
assert controller.get_conf("Bridge") is None
assert controller.get_circuits() == []

events = queue.Queue()
controller.add_event_listener(events.put, EventType.CIRC, EventType.STREAM)
curl = ["curl", "--silent", "--fail", "--max-time", "40", "--proxy", f"socks5h://localhost{socks}", "--proxy-user", "site:nonce"]
assert b"this page came through tor" in subprocess.run(curl + [page], check=True, stdout=subprocess.PIPE).stdout

circuit = events.get(timeout=10)
assert (circuit.type, circuit.status) == ("CIRC", "BUILT")
streams = [events.get(timeout=10) for _ in range(2)]
assert [(s.type, s.status, s.circ_id) for s in streams] == [("STREAM", s, circuit.id) for s in ("SENTCONNECT", "SUCCEEDED")]

(shown,) = controller.get_circuits()
assert shown.path == circuit.path and len(shown.path) == 3
addresses = [controller.get_network_status(fingerprint).address for fingerprint, _ in shown.path]
assert shown.path[0][0] == HIDDEN and addresses[0] == "0.0.0.0", (shown.path, addresses)
assert all(address.startswith("10.77.0.") for address in addresses[1:]), addresses
assert [controller.get_info(f"ip-to-country/{address}") for address in addresses] == ["??", "ch", "ch"]

controller.signal(stem.Signal.NEWNYM)
controller.close()
print("ok")
