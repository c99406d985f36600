#!/bin/sh
# Calls Ledgerline with a signed request (docs/uapi.md); needs openssl and curl.
#
#   uapi.sh GET http://127.0.0.1:8000/api/v1/balance
#   uapi.sh POST http://127.0.0.1:8000/api/v1/accounting '{"amount":"0.01","transno":"t1"}'
#
# The application's id and secret are read from LEDGERLINE_APP_ID and LEDGERLINE_APP_SECRET. (On a
# machine that others use, prefer uapi.py: the secret shows among openssl's arguments here.)
set -eu

method=$1
url=$2
body=${3-}
timestamp=${UAPI_TIMESTAMP:-$(date +%s)}
nonce=${UAPI_NONCE:-$(openssl rand -hex 16)}

target=/${url#*://*/}
path=${target%%\?*}
query=
case $target in *\?*)
    query=$(printf %s "${target#*\?}" | tr '&' '\n' | grep -v '^$' | LC_ALL=C sort | paste -s -d '&' -) ;;
esac
digest=$(printf %s "$body" | openssl dgst -sha256 -r | cut -d ' ' -f 1)
signature=$(printf 'UAPI1\n%s\n%s\n%s\n%s\n%s\n%s\n%s' \
    "$method" "$path" "$query" "$digest" "$timestamp" "$nonce" "$LEDGERLINE_APP_ID" |
    openssl dgst -sha256 -hmac "$LEDGERLINE_APP_SECRET" -r | cut -d ' ' -f 1)
authorization="Uapi key=$LEDGERLINE_APP_ID,ts=$timestamp,nonce=$nonce,sig=$signature"

if [ "${UAPI_PRINT:-}" ]; then
    printf '%s\n' "$authorization"
elif [ "$body" ]; then
    curl -sS -X "$method" -H "Authorization: $authorization" -H 'Content-Type: application/json' -d "$body" "$url"
else
    curl -sS -X "$method" -H "Authorization: $authorization" "$url"
fi
