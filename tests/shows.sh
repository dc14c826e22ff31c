#!/usr/bin/env bash
# What does not fit CI: the whole suite on every interpreter found (the abi3 build on the newest); a million schedules;
# the benchmark. Writes docs/shows.md. Run it with `make shows`.
set -uo pipefail
cd "$(dirname "$0")/.."
mkdir -p docs
out=docs/shows.md
failed=0

interpreters() { # one command line per interpreter >= 3.11
    if command -v pyenv >/dev/null; then
        for version in $(pyenv versions --bare | grep -E '^3\.(1[1-9]|[2-9][0-9])\.[0-9]+$'); do
            echo "env PYENV_VERSION=$version python3"
        done
    else
        for minor in 11 12 13; do command -v "python3.$minor" || true; done
    fi
}

row() { # row NAME COMMAND...: run it, keep its last telling line
    local name=$1 log line
    shift
    log=$(mktemp)
    "$@" >"$log" 2>&1
    local status=$?
    line=$(grep -E ' p99 | kills, ' "$log" | tr -d '=|' | paste -sd';')
    [ -n "$line" ] || line=$(grep -E '[0-9]+ (passed|failed)|schedules|test result' "$log" | tail -n 1 | tr -d '=|')
    [ $status = 0 ] || { failed=1; line="FAILED ($status): $line"; tail -n 40 "$log" >&2; }
    echo "| $name | $line |" | tee -a "$out"
    rm -f "$log"
}

{
    echo "# The last long run"
    echo
    echo "Made by \`make shows\` at commit $(git rev-parse --short HEAD), $(date -u +%F), $(nproc) processors, Linux $(uname -r | cut -d- -f1)."
    echo
    echo "| what | outcome |"
    echo "|---|---|"
} >"$out"

row "1,000,000 simulated schedules" env DISTTASK_SCHEDULES=1000000 cargo test --no-default-features --lib simulation::a_hundred
while read -r python; do
    version=$($python -c 'import sys; print("{}.{}.{}".format(*sys.version_info))') || continue
    venv=".venv-${version%.*}"
    row "Python $version, its own build" make test-wheel PYTHON="$python" VENV="$venv"
    last=("$version" "$python" "$venv")
done < <(interpreters)
row "Python ${last[0]}, abi3" make test-wheel PYTHON="${last[1]}" VENV="${last[2]}" WHEEL_ARGS="--profile dev --features abi3"
for test in slow_clients every_result; do
    row "HTTP in full size: $test" env DISTTASK_FULL=1 "${last[2]}/bin/python" -m pytest -q -s tests/test_http_load.py -k $test
done
row "everything that waits, 8 threads, 60 s" env DISTTASK_HAMMER_SECONDS=60 "${last[2]}/bin/python" -m pytest -q -s tests/test_hammer.py
row "100,000 results of 1 MB, four ways" env DISTTASK_FULL=1 "${last[2]}/bin/python" -m pytest -q -s tests/test_flow_memory.py
"${last[2]}/bin/python" -m pip install --quiet "schemathesis>=4"
row "schemathesis, 300 cases per operation" "${last[2]}/bin/python" tests/fuzz_http.py
{
    echo
    echo "## \`make bench\`"
    echo
    make --silent bench 2>/dev/null | grep -E '^(\||medians)' | sed 's/^medians.*/&\n/'
} >>"$out"
exit $failed
