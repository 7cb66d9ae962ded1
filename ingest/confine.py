"""Runs a program that can read only what it is made of, write only into one folder, and reach no network.

    python confine.py FOLDER BYTES PROGRAM ARGUMENT…

Each of its processes gets so many bytes of memory.

By Landlock, which Linux offers to everybody since 5.13 (the network since 6.7); elsewhere the program runs as it is.
A script by itself: it imports nothing of ours, so that it starts at once.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from pathlib import Path

READABLE = tuple(
    "/usr /bin /sbin /lib /lib32 /lib64 /opt /nix /var/cache/fontconfig /var/lib/libreoffice /var/spool/libreoffice "
    "/etc/alternatives /etc/fonts /etc/group /etc/ld.so.cache /etc/libreoffice /etc/localtime /etc/nsswitch.conf "
    "/etc/passwd /dev/null /dev/random /dev/urandom /dev/zero /proc/cpuinfo /proc/filesystems /proc/meminfo".split()
)
"""The program, its libraries and fonts: no folder in which people keep what is theirs."""

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # system calls, alike on every architecture
_VERSION, _PATH_BENEATH, _NO_NEW_PRIVILEGES = 1, 1, 38
_EXECUTE, _WRITE, _READ, _LIST, _REMOVE, _SOCKET = 1, 2, 4, 8, 32, 512
_SOCKETS = ("/tmp", "/var/tmp")  # noqa: S108  # where LibreOffice puts one, whatever TMPDIR says
# How many rights on files each version of Landlock knows; one that it does not know is refused.
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_ON_FILES = _EXECUTE | _WRITE | _READ | 1 << 14
_NETWORK_SINCE, _BIND_AND_CONNECT = 4, 3


def landlock() -> int:
    """Its version, below 1 where there is none."""
    return int(ctypes.CDLL(None).syscall(_CREATE, None, 0, _VERSION)) if sys.platform == "linux" else 0


def confine(folder: str) -> None:
    version, libc = landlock(), ctypes.CDLL(None)
    if version < 1:
        return
    every = (1 << _RIGHTS.get(version, 15)) - 1
    network = _BIND_AND_CONNECT if version >= _NETWORK_SINCE else 0
    attributes = struct.pack("QQ", every, network)[: 16 if network else 8]
    rules = libc.syscall(_CREATE, attributes, len(attributes), 0)
    if rules < 0:
        return
    for path in READABLE:
        _allow(libc, rules, path, _EXECUTE | _READ | _LIST | (_WRITE if path == "/dev/null" else 0))
    for path in _SOCKETS:
        _allow(libc, rules, path, _REMOVE | _SOCKET)
    _allow(libc, rules, folder, every)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    libc.syscall(_RESTRICT, rules, 0)
    os.close(rules)


def limit_memory(size: int) -> None:
    import resource  # not there on Windows, where this file is only imported

    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard == resource.RLIM_INFINITY or size < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def _allow(libc: ctypes.CDLL, rules: int, path: str, rights: int) -> None:
    if not Path(path).exists():
        return
    file = os.open(path, os.O_PATH | os.O_CLOEXEC)
    rights &= -1 if Path(path).is_dir() else _ON_FILES
    libc.syscall(_ADD, rules, _PATH_BENEATH, struct.pack("=Qi", rights, file), 0)
    os.close(file)


if __name__ == "__main__":
    limit_memory(int(sys.argv[2]))
    confine(sys.argv[1])
    os.execv(sys.argv[3], sys.argv[3:])  # noqa: S606  # what the caller found
