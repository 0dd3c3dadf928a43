#!/usr/bin/env python3
"""Stands where a test suite starts nbd-server, nbdkit or qemu-nbd by name, and starts `brim serve` instead.

It only translates command lines and puts the bytes on the disk that the suite asks for; what a client then sees on its
socket is brim alone. What brim has no word for (a filter, a plugin that is a program, TLS) ends with a message and exit
code 1: such a test fails, and must be listed with its reason in one of the *.list files. BRIM names the program.
"""

import configparser
import ctypes
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BRIM = os.environ["BRIM"]
UNITS = {"k": 10, "K": 10, "M": 20, "m": 20, "G": 30, "T": 40}


def no(what):
    sys.exit(f"{Path(sys.argv[0]).name}: brim serve has no {what}")


def count(text):
    """A size as nbdkit writes it: 5M, 1048576."""
    return int(text[:-1]) << UNITS[text[-1]] if text[-1] in UNITS else int(text)


class Disk:
    """What is to be served: a size, a name, and a file with the bytes to begin with."""

    def __init__(self, size=0, name="", content=None):
        self.size, self.name, self.content, self.flags = size, name, content, []

    @classmethod
    def of_file(cls, path, name=""):
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            no(f"way to serve {path}, which is not a file")
        return cls(found.st_size, name, path if found.st_blocks else None)

    def command(self, *where):
        name = ["--export", self.name] if self.name else []
        return [BRIM, "serve", "--size", str(self.size), *name, *self.flags, *where]


def tell(disk):
    """The runner looks for this in a test's log: a test that passes without brim has shown nothing."""
    print(f"stand-in: brim serves {disk.size} bytes", file=sys.stderr, flush=True)


def end_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, linux/prctl.h


def write_pid(path):
    if path:
        Path(path).write_text(f"{os.getpid()}\n")


def start(disk, path):
    """Starts brim on a UNIX socket, which is at `path` only once the bytes are on the disk."""
    early = f"{path}.early"
    flags = disk.flags
    if disk.content:
        disk.flags = [flag for flag in flags if flag != "--read-only"]
        if disk.flags != flags:
            no("read-only disk with something on it")
    tell(disk)
    server = subprocess.Popen(
        disk.command("--unix", early), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, preexec_fn=end_with_parent
    )
    while not os.path.exists(early):
        if server.poll() is not None:
            sys.exit(server.returncode or 1)
        time.sleep(0.01)
    if disk.content:
        uri = f"nbd+unix:///{disk.name}?socket={early}"
        subprocess.run(["/usr/bin/nbdcopy", "--", disk.content, uri], env={}, check=True, stdin=subprocess.DEVNULL)
    os.rename(early, path)
    return server


def passes_signals(server):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: server.terminate())


def serve(disk, where, pid_file=None):
    """Becomes brim where nothing has to be done first, else stays around it. A suite takes the pid file for a sign."""
    if not disk.content and (where[0] != "--unix" or len(where) > 2):
        tell(disk)
        write_pid(pid_file)
        os.execv(BRIM, disk.command(*where))
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
        uri = f"nbd+unix:///{disk.name}?socket={path}"
        environment = {**os.environ, "uri": uri, "nbd": uri, "unixsocket": path, "exportname": disk.name}
        status = subprocess.run(["bash", "-c", command], env=environment, stdin=subprocess.DEVNULL).returncode
        server.terminate()
        server.wait()
        sys.exit(status)


# nbdkit


def scratch_file(size, pieces):
    """A sparse file with the pieces (offset, bytes); left behind in TMPDIR, which the runner removes."""
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.truncate(size)
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)
        return file.name


def plugin_disk(plugin, rest):
    keys = dict(word.split("=", 1) for word in rest if "=" in word)
    bare = [word for word in rest if "=" not in word]
    if plugin in ("sh", "eval"):
        no("plugins that are programs")
    if set(keys) - {"size", "file", "data"} or len(bare) > 1:
        no(f"{plugin} with {' '.join(rest)}")
    size = count(keys.get("size") or (bare[0] if bare and plugin not in ("file", "data") else "0"))
    if plugin in ("memory", "null"):
        return Disk(size)
    if plugin == "pattern":
        data = b"".join(at.to_bytes(8, "big") for at in range(0, size, 8))[:size]
        return Disk(size, content=scratch_file(size, [(0, data)]))
    if plugin == "file":
        return Disk.of_file(keys.get("file") or bare[0])
    if plugin == "data":
        at, pieces = 0, []
        for word in (keys.get("data") or bare[0]).split():
            if word.startswith("@"):
                at = int(word[1:], 0)
            elif not word[0].isdigit():
                no(f"data like {word}")
            else:
                pieces.append((at, bytes([int(word, 0)])))
                at += 1
        size = max([size] + [offset + 1 for offset, _ in pieces])
        return Disk(size, content=scratch_file(size, pieces))
    return no(f"plugin {plugin}")


def nbdkit(arguments):
    name, flags, where, pid_file, command, dump_plugin = "", [], [], None, None, False
    port, address = None, "127.0.0.1"
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
            print("version_major=1\nversion_minor=42\ntls=no")
            sys.exit()
        elif word == "--exit-with-parent":
            end_with_parent()
        elif (word, value) == ("--tls", "off") or word in ("-f", "-v", "-n"):
            pass
        elif not version:
            no(f"{word} {value}")
    if version:
        sys.exit()
    disk = plugin_disk(others[0], others[1:])
    if dump_plugin:
        sys.exit()
    disk.name, disk.flags = name, flags
    if command is not None:
        run_with(disk, where, command)
    if port:
        where = ["--listen", f"[{address}]:{port}" if ":" in address else f"{address}:{port}"]
    elif not where and "LISTEN_FDS" in os.environ:
        where = ["--activated"]
    serve(disk, where or no("default port"), pid_file)


# nbd-server


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
    if "certfile" in generic:
        no("TLS")
    if "includedir" in generic:
        found.read(sorted(Path(generic["includedir"]).glob("*.conf")))
    exports = [found[name] for name in found.sections() if name != "generic"]
    if len(exports) != 1:
        no(f"way to serve {len(exports)} exports")
    export = exports[0]
    if "treefiles" in export:
        no("trees of files")
    disk = Disk.of_file(export["exportname"], export.name)
    # What these tests put into the file is zeroes.
    disk.content = None
    disk.size = export.getint("filesize", disk.size)
    disk.flags += ["--read-only"] if export.getboolean("readonly", False) else []
    disk.flags += ["--rotational"] if export.getboolean("rotational", False) else []
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
    disk = Disk.of_file(files[0], name)
    disk.flags = flags
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
