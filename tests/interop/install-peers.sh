#!/bin/sh
# Installs the peer programs of the interoperability tests from Debian packages, where it may.
# Elsewhere it says what is missing, and the tests that need it skip visibly.
# With TAPS_REQUIRE_PEERS=1 a peer that is still missing in the end is a failure.
set -u

PROGRAMS="openssl gnutls-serv gnutls-cli tshark dumpcap wireguard-go wg ip iperf3 curvecpserver curvecpclient"
PACKAGES="openssl gnutls-bin tshark wireguard-go wireguard-tools iproute2 iperf3 nacl-tools"

missing() {
    for program in $PROGRAMS; do
        command -v "$program" >/dev/null 2>&1 || printf ' %s' "$program"
    done
}

wanted=$(missing)
[ -n "$wanted" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing the peer programs:$wanted"
    log=$(mktemp)
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086
    { apt-get update && apt-get install --yes --no-install-recommends $PACKAGES; } \
        >"$log" 2>&1 </dev/null || tail -n 5 "$log"
    rm -f "$log"
    wanted=$(missing)
    [ -n "$wanted" ] || exit 0
fi

echo "NOTE: peer programs missing:$wanted"
echo "      Their tests will be skipped. As root on Debian or Ubuntu: apt install $PACKAGES"
[ "${TAPS_REQUIRE_PEERS:-}" != 1 ] || exit 1
