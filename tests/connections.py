"""What connections Python code asks for, in any thread, by an audit hook."""

import sys
from contextlib import contextmanager

LOOK_UPS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
CALLS = ("socket.connect", "socket.sendto", "socket.sendmsg")

asked: list | None = None


def note(event, arguments):
    """Add the host, or the address of the internet, that an event names."""
    if asked is None:
        return
    if event in LOOK_UPS:
        asked.append(arguments[0])
    elif event in CALLS and isinstance(arguments[1], tuple):  # a path is within this machine
        asked.append(arguments[1])


@contextmanager
def connections():
    """Yield a list that the hosts and addresses are added to, until the end."""
    global asked
    asked = []
    yield asked
    asked = None


sys.addaudithook(note)
