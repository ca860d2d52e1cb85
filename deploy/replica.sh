#!/usr/bin/env bash
# Start one replica on this host, in the foreground, from its directory: replica.sh DIR
# DIR is a replica-N as `bft cluster init` made it.  The `bft` command is found beside this checkout, else on PATH;
# BFT=/path/to/bft names another.  Settings are overridden by BFT_ variables (BFT_LISTEN_PEER=0.0.0.0:7100 ...).
set -euo pipefail

if [[ $# -ne 1 ]]; then
    echo "usage: ${0##*/} REPLICA_DIRECTORY" >&2
    exit 2
fi
if [[ ! -f $1/replica.toml ]]; then
    echo "error: $1/replica.toml: no such file; copy a replica-N directory that 'bft cluster init' made to this host" >&2
    exit 4
fi

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bft=${BFT:-$checkout/.venv/bin/bft}
[[ -x $bft ]] || bft=$(command -v bft) || {
    echo "error: no bft command: run 'make setup' in $checkout, or name it with BFT=/path/to/bft" >&2
    exit 4
}
exec "$bft" replica run "$1"
