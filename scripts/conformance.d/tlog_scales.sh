# tlog-scales is in .venv already, and the tests use it.
set -eu
work=$1
version=$(.venv/bin/python -c 'from importlib.metadata import version; print(version("tlog-scales"))')
what="tlog-scales $version: tests/conformance"
if .venv/bin/python -m pytest -q -n0 tests/conformance >"$work/out" 2>&1; then
    echo "$what: ok"
else
    cat "$work/out" >&2
    echo "$what: failed (see above)"
    exit 1
fi
