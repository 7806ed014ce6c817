"""What a hostile function tries. A way is out if its function returns something true."""

import ctypes
import errno
import fcntl
import os
import platform
import resource
import signal
import socket
import subprocess

libc = ctypes.CDLL(None, use_errno=True)
PARENT = os.getppid()
HOME = os.environ["HOME"]
KNOWN = {"PATH", "HOME", "TMPDIR", "LANG", "PYTHONHASHSEED", "PYTHONUNBUFFERED",
         "PYTHONDONTWRITEBYTECODE", "MALLOC_ARENA_MAX", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
         "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS",
         "LC_CTYPE"}
NUMBERS = {
    "x86_64": {"ptrace": 101, "process_vm_readv": 310, "pidfd_open": 434, "mount": 165,
               "unshare": 272, "setns": 308, "kexec_load": 246, "bpf": 321, "io_uring_setup": 425,
               "perf_event_open": 298, "userfaultfd": 323, "keyctl": 250, "add_key": 248,
               "shmget": 29, "personality": 135, "prlimit64": 302, "chroot": 161,
               "open_by_handle_at": 304, "init_module": 175, "tkill": 200, "pidfd_getfd": 438,
               "memfd_create": 319},
}.get(platform.machine(), {})


def call(name, *arguments):
    """The result of a system call; an error of it is one here."""
    result = libc.syscall(NUMBERS[name], *arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return f"{name} = {result}"


def read(path):
    with open(path, "rb") as file:
        return file.read(64) or "empty"


def write(path):
    with open(path, "wb") as file:
        file.write(b"out")
    return path


def may_write(path):
    os.close(os.open(path, os.O_WRONLY))
    return path


def connect(address, family=socket.AF_INET, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as made:
        made.settimeout(2)
        made.connect(address)
        return address


def pair_to(address):
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return one.sendto(b"out", address)


def pair_connects(address):
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    one.connect(address)
    return address


def through_a_link(path):
    link = os.path.join(HOME, "link")
    os.symlink(path, link)
    return read(link)


def hard_link(path):
    link = os.path.join(HOME, "hard")
    os.link(path, link)
    return read(link)


def more(limit):
    resource.setrlimit(limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return limit


def strange_descriptors():
    found = []
    for number in range(1024):
        try:
            os.fstat(number)
        except OSError:
            continue
        found.append(number)
    # Null, the pipes, the connection.
    return [number for number in found if number not in (0, 1, 2, connection.fileno())]


def signals_by_a_socket():
    one, _ = socket.socketpair()
    fcntl.fcntl(one, fcntl.F_SETOWN, PARENT)
    return PARENT


def fork():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


def ways(facts):
    port, abstract, path, secret, folder = (facts[name] for name in
                                            ("port", "abstract", "socket", "secret", "folder"))
    yield "environment variables", lambda: set(os.environ) - KNOWN
    yield "environment of process 1", lambda: read("/proc/1/environ")
    yield "environment of the worker", lambda: read(f"/proc/{PARENT}/environ")
    yield "memory of the worker", lambda: read(f"/proc/{PARENT}/mem")
    yield "descriptors of the worker", lambda: os.listdir(f"/proc/{PARENT}/fd")
    yield "files of the worker's root", lambda: read(f"/proc/{PARENT}/root{secret}")
    if facts["metadata"]:
        yield "metadata address", lambda: connect(("169.254.169.254", 80))
    yield "TCP to loopback", lambda: connect(("127.0.0.1", port))
    yield "TCP over IPv6", lambda: connect(("::1", port), socket.AF_INET6)
    yield "UDP", lambda: connect(("127.0.0.1", port), kind=socket.SOCK_DGRAM)
    yield "raw packets", lambda: connect(("127.0.0.1", 0), kind=socket.SOCK_RAW)
    yield "netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
    yield "abstract Unix socket", lambda: connect("\0" + abstract, socket.AF_UNIX)
    yield "Unix socket of a file", lambda: connect(path, socket.AF_UNIX)
    yield "datagrams of a pair", lambda: pair_to("\0" + abstract)
    yield "a pair that connects", lambda: pair_connects("\0" + abstract)
    yield "folder of another job", lambda: read(secret)
    yield "link to the folder of another job", lambda: through_a_link(secret)
    yield "hard link to a file of another job", lambda: hard_link(secret)
    yield "password file", lambda: read("/etc/shadow")
    yield "names of all files of a home", lambda: os.listdir("/root")
    yield "write to the code", lambda: write(os.path.join(folder, "transform.py"))
    yield "write beside the code", lambda: write(os.path.join(folder, "more.py"))
    yield "write to /tmp", lambda: write("/tmp/streamctl-way-out")
    yield "write to shared memory", lambda: write("/dev/shm/streamctl-way-out")
    yield "change the rights of the code", lambda: os.chmod(folder, 0o777) or "changed"
    yield "cut off a file of another job", lambda: os.truncate(secret, 0) or "cut"
    yield "times of a file of another job", lambda: os.utime(secret) or "set"
    yield "remove the code", lambda: os.remove(os.path.join(folder, "transform.py")) or "removed"
    yield "devices", lambda: read("/dev/mem") + read("/dev/kmsg")
    yield "settings of the kernel", lambda: may_write("/proc/sys/kernel/core_pattern")
    yield "signal to the worker", lambda: os.kill(PARENT, 0) or "may"
    yield "signal to all", lambda: os.kill(-1, 0) or "may"
    yield "signal to process 1", lambda: os.kill(1, 0) or "may"
    yield "signals by a socket", signals_by_a_socket
    yield "outlive the worker", lambda: libc.prctl(1, 0) == 0
    yield "inherited descriptors", strange_descriptors
    yield "fork", fork
    yield "a program that is set-uid", lambda: subprocess.run(["/bin/su", "-c", "id"]).returncode == 0
    yield "more memory", lambda: more(resource.RLIMIT_DATA)
    yield "more files", lambda: more(resource.RLIMIT_NOFILE)
    yield "core dumps", lambda: more(resource.RLIMIT_CORE)
    yield "rights of root", lambda: os.setuid(0) or os.listdir("/root")
    yield "priority of the worker", lambda: os.setpriority(os.PRIO_PROCESS, PARENT, 0) or "set"
    for name, *arguments in [
        ("ptrace", 0x4206, PARENT, 0, 0), ("process_vm_readv", PARENT, 0, 0, 0, 0, 0),
        ("pidfd_open", PARENT, 0), ("mount", b"none", HOME.encode(), b"tmpfs", 0, 0),
        ("unshare", 0x10000000), ("unshare", 0x20000), ("kexec_load", 0, 0, 0, 0),
        ("bpf", 0, 0, 0), ("io_uring_setup", 4, ctypes.create_string_buffer(256)),
        ("perf_event_open", ctypes.create_string_buffer(256), 0, -1, -1, 0), ("userfaultfd", 0),
        ("keyctl", 0, -3, 1), ("add_key", b"user", b"way", b"out", 3, -3),
        ("shmget", 0x1234567, 4096, 0o1777), ("personality", 0x40000),
        ("prlimit64", PARENT, 7, 0, ctypes.create_string_buffer(16)), ("chroot", HOME.encode()),
        ("open_by_handle_at", -100, 0, 0), ("init_module", 0, 0, b""), ("tkill", PARENT, 0),
        ("memfd_create", b"way", 0),
    ] if NUMBERS else []:
        yield f"{name} {arguments[0]!r}" if name == "unshare" else name, (
            lambda name=name, arguments=arguments: call(name, *arguments))


def process_batch(head, bodies):
    import json

    with open("facts.json") as file:
        facts = json.load(file)
    for name, way in ways(facts):
        try:
            got = way()
            how = "OUT" if got else "in"
        except (OSError, ValueError, AttributeError) as error:
            got, how = error, "in"
        except Exception as error:
            got, how = error, "broken"
        send({"type": "log", "level": "info", "text": f"{how}\t{name}\t{got!r}"[:300]})
