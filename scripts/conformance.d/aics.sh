# aics-tlog from PyPI, in an environment of its own: it needs Python 3.12.
set -eu
work=$1
shift
here=$(cd "$(dirname "$0")" && pwd)

give_up() {
    echo "aics-tlog: checkpoints, tiles, proofs and cosignatures: not available ($1)"
    exit 0
}

for python in "${PYTHON:-none}" python3 python3.14 python3.13 python3.12 \
    "$(pyenv root 2>/dev/null || true)"/versions/3.1[2-9]*/bin/python none; do
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && break
done
[ "$python" != none ] || give_up "no Python 3.12 or newer; name one: PYTHON=/path/to/python"
"$python" -m venv "$work/venv" >"$work/log" 2>&1 &&
    "$work/venv/bin/python" -m pip -q install --no-compile aics-tlog >>"$work/log" 2>&1 ||
    give_up "cannot be installed from PyPI"
version=$("$work/venv/bin/python" -c 'from importlib.metadata import version; print(version("aics-tlog"))')
failed=0
for folder; do
    "$work/venv/bin/python" "$here/verify_aics.py" "aics-tlog $version: $(basename "$folder")" \
        "$folder" || failed=1
done
exit "$failed"
