#!/usr/bin/env bash
# Puts the last benchmark's tables (in the folder named) into docs/benchmarks.md, with the commit that they are of.
set -euo pipefail
cd "$(dirname "$0")/.."
{
    echo "# Benchmarks"
    echo
    echo "Made by \`make bench\` at commit $(git rev-parse --short HEAD), $(date -u +%F), $(nproc) processors, release build. Machines are"
    echo "noisy and differ: read the ratios, not the figures. \`bench/peers.py\` says how each is measured."
    echo
    sed 's/^# Peer benchmark/## Beside others/' "$1/peers.md"
    if [ -e "$1/again.md" ]; then
        echo
        echo "Single rows once more, in a run of their own (\`bench/peers.py --cases\`):"
        echo
        sed -n '/^| metric/,/^$/p' "$1/again.md"
    fi
    echo
    echo "## What tasks cost"
    echo
    cat "$1/cost.md"
    echo
    cat "$1/large.md"
    echo
    echo "## Where a task's time goes"
    echo
    cat "$1/floor.md"
    echo
    echo "## HTTP"
    echo
    cat "$1/http.md"
} >docs/benchmarks.md
