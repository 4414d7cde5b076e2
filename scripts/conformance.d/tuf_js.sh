# tuf-js from npm, which follows trust roots that the commands of this project made.
set -eu
work=$1
here=$(cd "$(dirname "$0")" && pwd)

give_up() {
    echo "tuf-js: trust roots: not available ($1)"
    exit 0
}

command -v npm >/dev/null || give_up "no npm"
(cd "$work" && npm install --silent --no-audit --no-fund --ignore-scripts tuf-js@5.0.1) \
    >"$work/log" 2>&1 || give_up "cannot be installed from npm"
.venv/bin/python -m tests.conformance.trust_root "$work/roots"
# Beside its modules, where Node.js looks for them.
cp "$here/verify_tuf.mjs" "$work"
node "$work/verify_tuf.mjs" "tuf-js 5.0.1" "$work/roots"
