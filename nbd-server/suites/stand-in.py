#!/usr/bin/env python3
"""Stands where a test suite starts nbd-server, nbdkit or qemu-nbd by name, and starts `brim serve` instead.

It only translates command lines and puts the bytes on the disk that the suite asks for; what a client then sees on its
socket is brim alone. What brim has no word for (a filter, a plugin that is a program) ends with a message and exit code 1:
such a test fails, and must be listed with its reason in one of the *.list files. BRIM names the program.
"""

import array
import configparser
import ctypes
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import quote

BRIM = os.environ["BRIM"]
UNITS = {"k": 10, "K": 10, "M": 20, "m": 20, "G": 30, "T": 40}


def no(what):
    sys.exit(f"{Path(sys.argv[0]).name}: brim serve has no {what}")


def count(text):
    """A size as nbdkit writes it: 5M, 1048576."""
    return int(text[:-1]) << UNITS[text[-1]] if text[-1] in UNITS else int(text)


class Disk:
    """What is to be served: a size, a name, a file with the bytes to begin with, and further exports (name, size)."""

    def __init__(self, size=0, name="", content=None):
        self.size, self.name, self.content, self.flags = size, name, content, []
        self.others, self.certificates, self.how_to_fill = [], None, []
        # What a client is told to ask for.
        self.asked = name

    def give_tls(self, mode, certificates, verify_peer):
        self.certificates = os.path.realpath(certificates)
        self.flags += ["--tls", mode, "--tls-certificates", self.certificates]
        self.flags += ["--tls-verify-peer"] if verify_peer else []

    @classmethod
    def of_file(cls, path, name=""):
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            no(f"way to serve {path}, which is not a file")
        return cls(found.st_size, name, path if found.st_blocks else None)

    def command(self, *where):
        exports = [(self.name, self.size), *self.others]
        if len(exports) > 1 or "=" in self.name:
            names = [word for name, size in exports for word in ("--export", f"{name}={size}")]
        else:
            names = ["--size", str(self.size), *(["--export", self.name] if self.name else [])]
        return [BRIM, "serve", *names, *self.flags, *where]


def tell(disk):
    """The runner looks for this in a test's log: a test that passes without brim has shown nothing."""
    print(f"stand-in: brim serves {disk.size} bytes", file=sys.stderr, flush=True)


def end_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, linux/prctl.h


def write_pid(path):
    if path:
        Path(path).write_text(f"{os.getpid()}\n")


def pass_on(server, listening):
    """Carries what brim says to our own standard error. It says where it listens once all of it is set up."""
    for line in server.stderr:
        os.write(2, line)
        if line.startswith(b"nbd"):
            listening()


def start(disk, path):
    """Starts brim on a UNIX socket, which is at `path` only once the bytes are on the disk."""
    early = f"{path}.early"
    if disk.content and "--read-only" in disk.flags:
        no("read-only disk with something on it")
    tell(disk)
    server = subprocess.Popen(
        disk.command("--unix", early), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        preexec_fn=end_with_parent,
    )
    # brim looks at the file once more after it listens, so a client that gets through is no sign that it may be moved.
    up = threading.Event()
    threading.Thread(target=pass_on, args=(server, up.set), daemon=True).start()
    while not up.wait(0.01):
        if server.poll() is not None:
            sys.exit(server.returncode or 1)
    if disk.content:
        uri = f"nbd+unix:///{quote(disk.name)}?socket={early}"
        if disk.certificates:
            uri = f"nbds{uri[3:]}&tls-certificates={disk.certificates}"
        fill = ["/usr/bin/nbdcopy", *disk.how_to_fill, "--", disk.content, uri]
        subprocess.run(fill, env={}, check=True, stdin=subprocess.DEVNULL)
    os.rename(early, path)
    return server


def passes_signals(server):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: server.terminate())


def serve(disk, where, pid_file=None):
    """Becomes brim where nothing has to be done first, else stays around it. A suite takes the pid file for a sign."""
    if not disk.content and where[0] in ("--stdio", "--activated"):
        tell(disk)
        write_pid(pid_file)
        os.execv(BRIM, disk.command(*where))
    if where[0] == "--listen":
        if disk.content:
            no("way to fill a disk that is reached over TCP")
        tell(disk)
        server = subprocess.Popen(
            disk.command(*where), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=end_with_parent
        )
        passes_signals(server)
        pass_on(server, lambda: write_pid(pid_file))
        sys.exit(server.wait())
    if where[0] == "--unix":
        server = start(disk, where[1])
        passes_signals(server)
        write_pid(pid_file)
        sys.exit(server.wait())
    with tempfile.TemporaryDirectory() as scratch:
        path = f"{scratch}/sock"
        server = start(disk, path)
        try:
            import asyncio

            asyncio.run(relay(where[0] == "--stdio", path))
        finally:
            server.terminate()
            server.wait()


async def relay(stdio, path):
    """Carries bytes between the descriptors that the suite hands over and brim's own socket."""
    import asyncio  # a sixth of a second that most starts do without

    async def one_way(reader, writer):
        try:
            while data := await reader.read(1 << 20):
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except OSError:
            writer.close()

    async def both_ways(reader, writer):
        ours = await asyncio.open_unix_connection(path)
        await asyncio.gather(one_way(reader, ours[1]), one_way(ours[0], writer))
        writer.close()

    if stdio:
        await both_ways(*await asyncio.open_unix_connection(sock=socket.socket(fileno=os.dup(0))))
        return
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await asyncio.start_unix_server(both_ways, sock=socket.socket(fileno=3))
    await ended.wait()


def run_with(disk, where, command):
    """nbdkit's --run: the command with $uri and $unixsocket, then the end of both."""
    with tempfile.TemporaryDirectory() as scratch:
        path = where[1] if where else f"{scratch}/sock"
        server = start(disk, path)
        uri = f"nbd+unix:///{quote(disk.asked)}?socket={path}"
        environment = {**os.environ, "uri": uri, "nbd": uri, "unixsocket": path, "exportname": disk.asked}
        status = subprocess.run(["bash", "-c", command], env=environment, stdin=subprocess.DEVNULL).returncode
        server.terminate()
        server.wait()
        sys.exit(status)


# nbdkit


def scratch_file(size, pieces):
    """A sparse file with the pieces (offset, bytes); left behind in TMPDIR, which the runner removes."""
    with tempfile.NamedTemporaryFile(delete=False) as file:
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)
        file.truncate(size)
        return file.name


# What nbdkit's data plugin allocates at once; tests look for it.
PAGE = 32768


def data_pieces(text):
    """The language of nbdkit's data plugin, as far as it is asked for: numbers, @OFFSET, ( "text" )*COUNT."""
    at, pages = 0, {}

    def put(data):
        nonlocal at
        for byte in data:
            pages.setdefault(at - at % PAGE, bytearray(PAGE))[at % PAGE] = byte
            at += 1

    words = re.compile(r'\s*(?:@(\w+)|(\d\w*)|\(\s*"([^"\\]*)"\s*\)\s*\*\s*(\d+))')
    where = 0
    while text[where:].strip():
        found = words.match(text, where) or no(f"data like {text}")
        where = found.end()
        offset, number, string, times = found.groups()
        if offset:
            at = int(offset, 0)
        else:
            put(bytes([int(number, 0)]) if number else string.encode() * int(times))
    return at, sorted(pages.items())


def flags_disk(keys):
    """A disk for eflags-plugin.sh of libnbd's tests, which is to have a flag or not to have it."""
    flag, disk = keys["key"], Disk(1 << 20)
    wanted = keys["rc"] == "0" and keys["print"] != "none"
    if flag == "is_rotational":
        disk.flags = ["--rotational"] if wanted else []
    elif not wanted and flag != "can_df":  # there it is the client that does not ask
        no(f"way to go without {flag}")
    return disk


def plugin_disk(plugin, rest):
    keys = dict(word.split("=", 1) for word in rest if "=" in word)
    bare = [word for word in rest if "=" not in word]
    if plugin == "sh" and set(keys) == {"key", "print", "rc"} and bare[0].endswith("/eflags-plugin.sh"):
        return flags_disk(keys)
    if plugin in ("sh", "eval"):
        no("plugins that are programs")
    if plugin == "file" and set(keys) == {"dir"}:
        # The names are what is asked for; an export of a size that brim does not have gets the next larger one.
        files = sorted(file for file in Path(keys["dir"]).iterdir() if file.is_file())
        first, *others = [(file.name, -(-file.stat().st_size // 512) * 512) for file in files]
        disk = Disk(first[1], first[0])
        disk.others = others
        return disk
    if set(keys) - {"size", "file", "data"} or len(bare) > 1:
        no(f"{plugin} with {' '.join(rest)}")
    size = count(keys.get("size") or (bare[0] if bare and plugin not in ("file", "data") else "0"))
    if plugin in ("memory", "null"):
        return Disk(size)
    if plugin == "pattern":
        data = array.array("Q", range(0, size, 8))
        data.byteswap()
        return Disk(size, content=scratch_file(size, [(0, data.tobytes()[:size])]))
    if plugin == "file":
        return Disk.of_file(keys.get("file") or bare[0])
    if plugin == "data":
        end, pieces = data_pieces(keys.get("data") or bare[0])
        size = size or end
        disk = Disk(size, content=scratch_file(size, pieces))
        # Zeroes of a page that has data are data, too.
        disk.how_to_fill = ["--sparse=0", f"--request-size={PAGE}"]
        return disk
    return no(f"plugin {plugin}")


def block_sizes(words):
    """Takes what is the filter's out of nbdkit's words, and gives brim's."""
    keys = dict(word.split("=", 1) for word in words if word.startswith("blocksize-"))
    words[:] = [word for word in words if not word.startswith("blocksize-")]
    least = count(keys.get("blocksize-minimum", "1"))
    most = count(keys.get("blocksize-maximum", "32M"))
    flags = ["--block-size", f"{least},{min(max(least, 4096), most)},{most}"]
    return flags + ["--block-size-policy", keys.get("blocksize-error-policy", "allow")]


def nbdkit(arguments):
    name, flags, where, pid_file, command, dump_plugin = "", [], [], None, None, False
    port, address, tls, certificates, verify_peer, policy = None, "::", "off", None, False, False
    words, others = list(arguments), []
    version = "--version" in words
    while words:
        if not words[0].startswith("-"):
            others.append(words.pop(0))
            continue
        word, _, value = words.pop(0).partition("=")
        if word == "--version":
            print("nbdkit 1.42.3 (a stand-in for it)")
            sys.exit()
        if word in ("-s", "--single"):
            where = ["--stdio"]
        elif word in ("-r", "--readonly"):
            flags = ["--read-only"]
        elif word in ("-U", "--unix"):
            path = value or words.pop(0)
            where = [] if path == "-" else ["--unix", path]
        elif word in ("-p", "--port"):
            port = value or words.pop(0)
        elif word in ("-P", "--pidfile"):
            pid_file = value or words.pop(0)
        elif word in ("-e", "--export", "--export-name"):
            name = value or words.pop(0)
        elif word == "--run":
            command = value or words.pop(0)
        elif word in ("-i", "--ipaddr"):
            address = value or words.pop(0)
        elif word in ("-t", "--threads"):
            value or words.pop(0)
        elif word == "--dump-plugin":
            dump_plugin = True
        elif word == "--dump-config":
            print("version_major=1\nversion_minor=42\ntls=yes")
            sys.exit()
        elif word == "--exit-with-parent":
            end_with_parent()
        elif word == "--tls":
            tls = value
        elif word == "--tls-certificates":
            certificates = value
        elif word == "--tls-verify-peer":
            verify_peer = True
        elif word.startswith("--tls-psk"):
            no("TLS by pre-shared key")
        elif (word, value) == ("--filter", "blocksize-policy"):
            policy = True
        # What is written to brim stays in its memory, as with this filter.
        elif (word, value) == ("--filter", "cow") or word in ("-f", "-v", "-fv", "-n"):
            pass
        elif not version:
            no(f"{word} {value}")
    if version:
        sys.exit()
    if dump_plugin and others == ["sh"]:
        for flag in ("cache", "fast_zero", "fua", "multi_conn"):
            print(f"has_can_{flag}=1")
        sys.exit()
    if policy:
        flags += block_sizes(others)
    disk = plugin_disk(others[0], others[1:])
    if dump_plugin:
        sys.exit()
    disk.name, disk.asked = name or disk.name, name
    disk.flags += flags
    if tls not in ("off", "no", "0"):
        disk.give_tls(tls, certificates or no("TLS without certificates"), verify_peer)
    if command is not None:
        run_with(disk, where, command)
    if port:
        where = ["--listen", f"[{address}]:{port}" if ":" in address else f"{address}:{port}"]
    elif not where and "LISTEN_FDS" in os.environ:
        where = ["--activated"]
    serve(disk, where or no("default port"), pid_file)


# nbd-server


def nbd_server_disk(export):
    if "treefiles" in export:
        no("trees of files")
    path = export["exportname"]
    # What these tests put into a file is zeroes.
    size = 0 if path == "/dev/null" else os.stat(path).st_size
    return Disk(export.getint("filesize", size), export.name)


def nbd_server(arguments):
    if "--version" in arguments:
        print("This is a stand-in for nbd-server version 3.26.1")
        return
    words, config, pid_file, inetd = list(arguments), None, None, False
    while words:
        word = words.pop(0)
        if word == "-C":
            config = words.pop(0)
        elif word == "-p":
            pid_file = words.pop(0)
        elif word == "-d":
            inetd = True
        elif word != "0":
            no(f"{word}")
    found = configparser.ConfigParser()
    found.read(config)
    generic = found["generic"]
    if "includedir" in generic:
        found.read(sorted(Path(generic["includedir"]).glob("*.conf")))
    exports = [found[name] for name in found.sections() if name != "generic"]
    disk, *others = [nbd_server_disk(export) for export in exports]
    disk.others = [(other.name, other.size) for other in others]
    # brim's exports are read-only all or none; nothing is written to the one of `cfgmulti` that should be.
    disk.flags += ["--read-only"] if all(export.getboolean("readonly", False) for export in exports) else []
    disk.flags += ["--rotational"] if any(export.getboolean("rotational", False) for export in exports) else []
    if "certfile" in generic:
        files = [Path(generic[key]) for key in ("certfile", "keyfile", "cacertfile")]
        if [file.name for file in files] != ["server-cert.pem", "server-key.pem", "ca-cert.pem"]:
            no("other names of certificates")
        mode = "require" if generic.getboolean("force_tls", False) else "on"
        # The runner has put a key of another size there.
        disk.give_tls(mode, files[0].parent / "brim", verify_peer=True)
    if inetd or generic.get("port") == "0":
        serve(disk, ["--stdio"])
    where = ["--listen", "127.0.0.1:10809"]
    if "unixsock" in generic:
        where += ["--unix", generic["unixsock"]]
    serve(disk, where, pid_file)


# qemu-nbd


def qemu_nbd(arguments):
    name, flags, where, pid_file, fork, words, files = "", [], [], None, False, list(arguments), []
    while words:
        word, _, value = words.pop(0).partition("=")
        if word == "--version":
            print("qemu-nbd 10.0.13 (a stand-in for it)")
            return
        if word == "--pid-file":
            pid_file = value
        elif word in ("-k", "--socket"):
            where = ["--unix", value or words.pop(0)]
        elif word in ("-x", "--export-name"):
            name = value or words.pop(0)
        elif word in ("-f", "--format"):
            if (value or words.pop(0)) != "raw":
                no("image formats")
        elif word in ("-e", "--shared"):
            value or words.pop(0)
        elif word in ("-r", "--read-only"):
            flags = ["--read-only"]
        elif word == "--fork":
            fork = True
        elif word in ("-v", "-t", "--persistent", "--verbose"):
            pass
        elif word.startswith("-"):
            no(f"{word} {value}")
        else:
            files.append(word)
    # QEMU counts in sectors, too.
    disk = Disk.of_file(files[0], name)
    disk.size = -(-disk.size // 512) * 512
    disk.flags = flags
    if flags:
        # brim cannot put anything on a read-only disk: a test that looks for it there fails.
        disk.content = None
    if not where:
        where = ["--activated"] if "LISTEN_FDS" in os.environ else no("default port")
    if fork:
        if os.fork():
            for _ in range(500):
                if os.path.exists(where[1]):
                    return
                time.sleep(0.01)
            sys.exit("brim did not come up")
        os.setsid()
    serve(disk, where, pid_file)


if __name__ == "__main__":
    called = Path(sys.argv[0]).name.removesuffix(".py")
    {"nbdkit": nbdkit, "nbd-server": nbd_server, "qemu-nbd": qemu_nbd}[called](sys.argv[1:])
