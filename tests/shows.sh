#!/usr/bin/env bash
# What does not fit CI: a million schedules, the rings' protocol to a greater depth, the whole suite on every interpreter
# found in both kinds of build, a thousand kills, the storms in full size, HTTP's fuzz, what users of pools complain of. Writes
# docs/shows.md with the commit.
# Run it with `make shows`; two hours with two processors. Rows can be named: `tests/shows.sh kills storm suite-3.12 abi3`.
set -uo pipefail
cd "$(dirname "$0")/.."
mkdir -p docs
out=docs/shows.md
failed=0
wanted=("$@")

interpreters() { # one command line per interpreter >= 3.11
    if command -v pyenv >/dev/null; then
        # Not PYENV_VERSION: whatever stands before pyenv's own commands in PATH does not know it.
        for version in $(pyenv versions --bare | grep -E '^3\.(1[1-9]|[2-9][0-9])\.[0-9]+$'); do
            echo "$(pyenv root)/versions/$version/bin/python3"
        done
    else
        for minor in 11 12 13 14; do command -v "python3.$minor" || true; done
    fi
}

row() { # row KEY NAME COMMAND...: run it, keep its last telling line
    local key=$1 name=$2 log line seconds=$SECONDS
    shift 2
    [ "${#wanted[@]}" = 0 ] || [[ " ${wanted[*]} " == *" $key "* || " ${wanted[*]} " == *" ${key%-*} "* ]] || return 0
    log=$(mktemp)
    "$@" >"$log" 2>&1
    local status=$?
    line=$(grep -E ' p99 | kills, ' "$log" | tr -d '=|' | paste -sd';')
    [ -n "$line" ] || line=$(grep -E '[0-9]+ (passed|failed)|schedules|test result|test cases' "$log" | tail -n 1 | tr -d '=|')
    [ $status = 0 ] || { failed=1; line="FAILED ($status): $line"; tail -n 40 "$log" >&2; }
    echo "| $name | $(tr -s ' ' <<<"$line" | sed 's/^ *//; s/ *$//') | $((SECONDS - seconds)) s |" | tee -a "$out"
    rm -f "$log"
}

changes=$(git status --porcelain -- . ":!$out")
{
    echo "# The last long run"
    echo
    echo "Made by \`make shows\` at commit $(git rev-parse --short HEAD)${changes:+ with changes}, $(date -u +%F)," \
        "$(nproc) processors, Linux $(uname -r | cut -d- -f1)."
    echo
    echo "| what | outcome | took |"
    echo "|---|---|---|"
} >"$out"

core=(cargo test --no-default-features --lib)
row schedules "1,000,000 simulated schedules" env DISTTASK_SCHEDULES=1000000 "${core[@]}" simulation::a_hundred
row protocol "rings and bells, three interruptions" env DISTTASK_INTERRUPTIONS=3 "${core[@]}" protocol_check

while read -r python; do
    version=$($python -c 'import sys; print("{}.{}.{}".format(*sys.version_info))') || continue
    venv=".venv-${version%.*}"
    row "suite-${version%.*}" "Python $version, its own build" make test-wheel PYTHON="$python" VENV="$venv"
    row "abi3-${version%.*}" "Python $version, abi3" make test-wheel PYTHON="$python" VENV="$venv-abi3" WHEEL_ARGS="--profile dev --features abi3"
    last="$python"
done < <(interpreters)

# The rest on the newest of them.
venv=.venv-shows
make --silent wheel PYTHON="$last" VENV=$venv >/dev/null || exit 1
full=(env DISTTASK_FULL=1 "$venv/bin/python" -m pytest -q -s)
row kills "a thousand kills inside rings and arenas" "${full[@]}" tests/test_kills.py
row storm "the storm, 200,000 tasks" "${full[@]}" tests/test_chaos.py -k test_storm
row slow "HTTP, 500 slow headers and 200 slow bodies" "${full[@]}" tests/test_http_load.py -k slow_clients
row every "HTTP, 10,000 queued tasks, a kill a second" "${full[@]}" tests/test_http_load.py -k every_result
row hammer "everything that waits, 8 threads, 60 s" env DISTTASK_HAMMER_SECONDS=60 "${full[@]}" tests/test_hammer.py
row model "maps of all kinds beside a plain loop, two minutes" "${full[@]}" tests/test_map_model.py
row timeouts "time-outs at 200 ms, 1,000 tasks behind" "$venv/bin/python" bench/timeouts.py
row memory "100,000 results of 1 MB, four ways" "${full[@]}" tests/test_flow_memory.py
"$venv/bin/python" -m pip install --quiet "schemathesis>=4"
row fuzz "HTTP, schemathesis, 300 cases per operation" "$venv/bin/python" tests/fuzz_http.py
row complaints "[what users complain of](complaints.md), five pools" make --silent complaints PYTHON="$last"
exit $failed
