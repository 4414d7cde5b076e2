"""What the processes of the server, of PostgreSQL and the network spend meanwhile."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

MIB = 1024 * 1024
_EVERY_SECONDS = 0.1


@dataclass(slots=True)
class Usage:
    """Spent between two moments.

    Attributes:
        seconds: By the clock.
        server_cpu: Seconds of the server process, all threads.
        database_cpu: Seconds of all processes of PostgreSQL.
        wire: Bytes over loopback with TLS, TCP and IP, one direction counted; of others too,
            if others use it.
        requests: That the server answered.
    """

    seconds: float = 0.0
    server_cpu: float = 0.0
    database_cpu: float = 0.0
    wire: int = 0
    requests: int = 0


class Meter:
    """Watches a server and its PostgreSQL, and samples their peak memory."""

    def __init__(self, server: int, database: int, log: Path) -> None:
        self._server, self._database = psutil.Process(server), psutil.Process(database)
        self._log = log
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.peak_server = self.peak_database = 0
        self._thread.start()

    def stop(self) -> None:
        """Take no more samples."""
        self._stopped.set()
        self._thread.join()

    def forget_peaks(self) -> None:
        """Begin a new peak."""
        self.peak_server = self.peak_database = 0

    def server_connections(self) -> int:
        """Return how many connections the server holds now."""
        found = self._server.net_connections("tcp")
        return sum(one.status == psutil.CONN_ESTABLISHED for one in found)

    @contextmanager
    def measure(self) -> Iterator[Usage]:
        """Give what is spent inside the block, known when it ends."""
        usage = Usage()
        before = self._read()
        offset = self._log.stat().st_size
        begin = time.perf_counter()
        yield usage
        usage.seconds = time.perf_counter() - begin
        after = self._read()
        usage.server_cpu, usage.database_cpu = after[0] - before[0], after[1] - before[1]
        usage.wire = int(after[2] - before[2])
        with self._log.open("rb") as file:
            file.seek(offset)
            usage.requests = file.read().count(b"request answered")

    def _read(self) -> tuple[float, float, float]:
        own = self._server.cpu_times()
        wire = psutil.net_io_counters(pernic=True)["lo"].bytes_recv
        return own.user + own.system, self._database_cpu(), wire

    def _database_cpu(self) -> float:
        # Those that have ended count as children of the first one, once it has noticed: one
        # that ends between the two readings would be counted twice, or not at all.
        while True:
            begin = self._database.cpu_times()
            total = float(sum(begin[:4]))
            for child in self._database.children():
                try:
                    total += sum(child.cpu_times()[:2])
                except psutil.Error:
                    continue
            time.sleep(0.05)
            if self._database.cpu_times()[2:4] == begin[2:4]:
                return total

    def _sample(self) -> None:
        while not self._stopped.wait(_EVERY_SECONDS):
            try:
                self.peak_server = max(self.peak_server, self._server.memory_info().rss)
                pids = [self._database.pid, *(c.pid for c in self._database.children())]
            except psutil.Error:
                continue
            self.peak_database = max(self.peak_database, sum(map(_own_memory, pids)))


def _own_memory(pid: int) -> int:
    """Bytes that no other process shares: PostgreSQL's processes share their buffers."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    kib = next((line.split()[1] for line in status.splitlines() if line[:8] == "RssAnon:"), "0")
    return int(kib) * 1024
