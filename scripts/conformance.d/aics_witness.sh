# aics-witness from PyPI, in an environment of its own: it needs Python 3.12. Our code asks its
# witness for cosignatures, and its client asks ours.
set -eu
work=$1 vectors=$2
here=$(cd "$(dirname "$0")" && pwd)
ours="$here/../../.venv/bin/python"

give_up() {
    echo "aics-witness: cosignatures asked for and given: not available ($1)"
    exit 0
}

for python in "${PYTHON:-none}" python3 python3.14 python3.13 python3.12 \
    "$(pyenv root 2>/dev/null || true)"/versions/3.1[2-9]*/bin/python none; do
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && break
done
[ "$python" != none ] || give_up "no Python 3.12 or newer; name one: PYTHON=/path/to/python"
"$python" -m venv "$work/venv" >"$work/log" 2>&1 &&
    "$work/venv/bin/python" -m pip -q install --no-compile aics-witness >>"$work/log" 2>&1 ||
    give_up "cannot be installed from PyPI"
theirs="$work/venv/bin/python"
label="aics-witness $("$theirs" -c 'from importlib.metadata import version; print(version("aics-witness"))')"
key=$(cat "$vectors/keys/log.vkey")
origin=${key%%+*}
export AICS_WITNESS_CONFIG="$work/witness.json"
"$theirs" -m aics_witness init --name witness.example/w1 >"$work/vkey" 2>>"$work/log"
"$theirs" -m aics_witness add-log --origin "$origin" --vkey "$key" >>"$work/log" 2>&1
PYTHONPATH="$here/../.." "$ours" "$here/witness_ours.py" "$label" "$vectors" "$work" "$theirs"
