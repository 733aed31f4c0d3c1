#!/usr/bin/env bash
# False alarms of the gate, for real: N whole gate runs that compare this build with itself. None may fail.
#   bash ci/aa_runs.sh [N] [OUT]               N: 10; OUT: folder of the runs, default a temporary one
# About two to six minutes a run on a quiet machine of two cores. Prints one line per run; exit code 1 if a run failed.
set -euo pipefail
cd "$(dirname "$0")/.."
count=${1:-10}
out=${2:-$(mktemp -d)}
mkdir -p "$out"
# HARNESS names a program that is built already.
harness=${HARNESS:-}
if [ -z "$harness" ]; then
  cargo build --release --quiet -p harness
  harness=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release/harness
fi
# A copy: a build during the runs must not change the program under them.
cp "$harness" "$out/same-program"
declare -A seen=()
against=0
for run in $(seq "$count"); do
  code=0
  "$out/same-program" gate --rules ci/gate-time.toml --reference-program "$out/same-program" --out "$out/run-$run" \
    --format json >"$out/run-$run.json" 2>"$out/run-$run.log" || code=$?
  if [ "$code" -gt 1 ]; then tail -5 "$out/run-$run.log"; exit "$code"; fi
  verdict=$(sed -n 's/^ *"verdict": *"\([a-z_]*\)".*/\1/p' "$out/run-$run/gate.json" | head -1)
  seen[$verdict]=$((${seen[$verdict]:-0} + 1))
  [ "$code" = 0 ] || against=$((against + 1))
  echo "run $run: $verdict (exit $code)"
done
for verdict in "${!seen[@]}"; do echo "$verdict: ${seen[$verdict]} of $count"; done
echo "false alarms: $against of $count"
[ "$against" = 0 ]
