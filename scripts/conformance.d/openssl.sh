# OpenSSL, and no code of ours: what is signed is put together here, from the specifications.
set -eu
work=$1
vectors=$2
label=$(openssl version 2>/dev/null | cut -d ' ' -f 1,2 || true)
case $label in
"OpenSSL "[3-9]* | "OpenSSL "[1-9][0-9].*) ;;
*)
    echo "openssl: signatures: not available (needs OpenSSL 3, found ${label:-none})"
    exit 0
    ;;
esac
cd "$work"
failed=0

# The signature holds over the message, and not over one byte more.
verify() {
    { cat message && printf x; } >longer
    if openssl pkeyutl -verify -rawin -pubin -inkey "$2" -sigfile signature -in message &&
        ! openssl pkeyutl -verify -rawin -pubin -inkey "$2" -sigfile signature -in longer; then
        echo "$label: $1: ok" >&3
    else
        echo "$label: $1: failed" >&3
        failed=1
    fi >log 2>&1
}

# The text after a member's name, in JSON without spaces.
member() {
    sed -n "s|.*$1\":\"\([^\"]*\)\".*|\1|p" "$vectors/envelope.json"
}

decode() {
    openssl base64 -d -A
}

# A verifier key's 32 bytes after the prefix that RFC 8410 gives them.
to_pem() {
    {
        printf '\060\052\060\005\006\003\053\145\160\003\041\000'
        tr -d '\n' <"$1" | cut -d + -f 3- | tr -d '\n' | decode | tail -c 32
    } | openssl pkey -pubin -inform DER -out "$2"
}

# Key id, for a cosignature the time, and signature: what follows the name on a line of a note.
signature_line() {
    sed -n "$1p" "$vectors/cosigned-checkpoint" | cut -d ' ' -f 3 | tr -d '\n' | decode >line
    tail -c 64 line >signature
}

exec 3>&1
kind=$(member payloadType)
member payload | tr -d '\n' | decode >payload
for number in 1 2; do
    key=$vectors/keys/member-$number.pem
    key_id=$(openssl pkey -pubin -in "$key" -outform DER | openssl dgst -sha256 -r | cut -c 1-64)
    { printf 'DSSEv1 %d %s %d ' "${#kind}" "$kind" "$(wc -c <payload)" && cat payload; } >message
    member "$key_id\",\"sig" | tr -d '\n' | decode >signature
    verify "DSSE signature of member $number, whose key id is the digest of its key" "$key"
done

# The checkpoint: three lines, a blank one, the log's signature and the witness's.
to_pem "$vectors/keys/log.vkey" log.pem
to_pem "$vectors/keys/witness.vkey" witness.pem
head -n 3 "$vectors/cosigned-checkpoint" >message
signature_line 5
verify "signature of the checkpoint" log.pem
signature_line 6
seconds=$((0x$(head -c 12 line | tail -c 8 | od -An -v -tx1 | tr -d ' \n')))
{ printf 'cosignature/v1\ntime %d\n' "$seconds" && head -n 3 "$vectors/cosigned-checkpoint"; } >message
verify "cosignature/v1 of the checkpoint" witness.pem
exit "$failed"
