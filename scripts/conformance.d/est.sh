# EST (RFC 7030): others' programs renew a member's certificate, at a server that runs meanwhile.
# curl with OpenSSL, and strongSwan's pki, which has TLS and ASN.1 of its own; both as installed.
set -eu
work=$1
folder=$work/server
failed=0

.venv/bin/python -m tests.conformance.est_server "$folder" >"$work/server.log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" || true' EXIT
trap 'exit 1' HUP INT TERM
until [ -e "$folder/ready" ]; do
    kill -0 "$server" 2>/dev/null || {
        cat "$work/server.log" >&2
        echo "EST: a certificate that is renewed: failed (the server did not start, see above)"
        exit 1
    }
    sleep 0.2
done
cd "$work"
api=https://$(cat "$folder/api") enrol=https://$(cat "$folder/enrol") ca=$folder/ca.pem
printf '[req]\ndistinguished_name = names\n[names]\n' >names.cnf

# What $2 does holds, and no file is left of what was asked before.
verify() {
    rm -f answer status told.pem new.pem
    if "$2" "${3:-}" >log 2>&1; then
        echo "$label: $1: ok"
    else
        cat log >&2
        echo "$label: $1: failed (see above)"
        failed=1
    fi
}

# A request in the name $1 with the key $2.
write_request() {
    openssl req -new -config names.cnf -subj "/CN=$1" -key "$2" -outform DER -out request \
        -addext "subjectAltName=URI:urn:hashshare:member:$1"
}

is_the_ca() {
    [ "$(openssl x509 -in told.pem -outform PEM)" = "$(openssl x509 -in "$ca" -outform PEM)" ]
}

names() {
    openssl x509 -in "$1" -noout -subject -ext subjectAltName
}

# new.pem is acme's, for the key $1, and by the CA; with it one gets in.
is_acmes() {
    openssl verify -x509_strict -purpose sslclient -CAfile "$ca" new.pem &&
        [ "$(names new.pem)" = "$(names own.pem)" ] &&
        [ "$(openssl x509 -in new.pem -noout -serial)" != "$(openssl x509 -in own.pem -noout -serial)" ] &&
        [ "$(openssl x509 -in new.pem -noout -pubkey)" = "$(openssl pkey -in "$1" -pubout)" ] &&
        curl -sS --fail --cacert "$ca" --cert new.pem --key "$1" "$api/v1/self" |
        grep -q '"member":"acme"'
}

certificates() {
    openssl base64 -d -A -in answer | openssl pkcs7 -inform DER -print_certs -out "$1"
}

curl_cacerts() {
    curl -sS --fail --cacert "$ca" "$enrol/.well-known/est/cacerts" -o answer &&
        certificates told.pem && is_the_ca
}

curl_reenroll() {
    write_request "$1" "$2" && openssl base64 -in request -out request.b64 &&
        curl -sS --cacert "$ca" --cert own.pem --key own.key -o answer --data-binary @request.b64 \
            -H 'Content-Type: application/pkcs10' -w '%{http_code} %{content_type}' \
            "$api/.well-known/est/simplereenroll" >status
}

curl_renew() {
    curl_reenroll acme "$1" && certificates new.pem && is_acmes "$1" &&
        grep -qx '200 application/pkcs7-mime; *smime-type=certs-only' status
}

curl_refused() {
    curl_reenroll admin own.key && grep -q '^403 text/plain' status && grep -q CN=acme answer
}

pki_cacerts() {
    pki --estca --url "$enrol" --cacert "$ca" --caout told.pem --outform pem && is_the_ca
}

pki_reenroll() {
    write_request "$1" "$2" && pki --est --url "$api" --cacert "$ca" --cert own.pem --key own.key \
        --in request --outform pem >new.pem
}

pki_renew() {
    pki_reenroll acme "$1" && is_acmes "$1"
}

pki_refused() {
    ! pki_reenroll admin own.key && grep -q 'HTTP 403' log
}

verify_all() {
    verify "the CA's certificates over EST, without a certificate" "$1_cacerts"
    verify "a certificate renewed over EST, with the same key" "$1_renew" own.key
    verify "and with another key, which gets in" "$1_renew" new.key
    verify "another member's name is refused" "$1_refused"
}

openssl=$(openssl version 2>/dev/null | cut -d ' ' -f 1,2 || true)
curl=$(curl --version 2>/dev/null | sed -n '1s/^\(curl [^ ]*\).*/\1/p' || true)
case $curl/$openssl in
"curl "*/"OpenSSL "[3-9]* | "curl "*/"OpenSSL "[1-9][0-9].*) ;;
*)
    echo "EST: renewal: not available (needs curl and OpenSSL 3, found $curl/$openssl)"
    exit 0
    ;;
esac
openssl x509 -in "$folder/acme.pem" -out own.pem
openssl pkey -in "$folder/acme.pem" -out own.key
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out new.key 2>log
label="$curl, $openssl"
verify_all curl

label=$(pki --est --help 2>/dev/null | sed -n 's/^\(strongSwan [^ ]*\) PKI tool$/\1 pki/p' || true)
if [ -n "$label" ] && pki --est --help 2>/dev/null | grep -q -e '--cert file'; then
    # Its TLS ends with 1.2 unless it is told to go on.
    printf 'libtls {\n  version_max = 1.3\n}\n' >strongswan.conf
    export STRONGSWAN_CONF="$work/strongswan.conf"
    verify_all pki
else
    echo "strongSwan pki: renewal over EST: not available (needs 5.9.8, as of Debian's strongswan-pki)"
fi
exit "$failed"
