#!/usr/bin/env bash
# Four planted regressions, each with work that is really done, each of which must fail the gate with exit code 1; and the unchanged
# candidate, which must not.
#   bash ci/planted.sh                          about five minutes on a quiet machine
#   +1 % parameters     a wider MLP under the same name                 +10 % memory    a deeper network under the same name
#   +20 % time          one layer of three more, in pairs with plain    −1 point        10 of 1000 documents lost
set -euo pipefail
cd "$(dirname "$0")/.."
# HARNESS names a program that is built already.
harness=${HARNESS:-}
if [ -z "$harness" ]; then
  cargo build --release --quiet -p harness
  harness=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release/harness
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
plain=$(pwd)/configs/train/lm-tiny-plain.toml
tokenizer=$(pwd)/configs/demo/tokenizer.json

# project NAME "model settings": a project with one subject `it`, and `slow` beside it where a rule compares two.
project() {
  mkdir -p "$work/$1/configs/train" "$work/$1/configs/suites"
  sed -e "s/^name = .*/name = \"it\"/" -e "s#^tokenizer = [^ ]*#tokenizer = \"$tokenizer\"#" -e "$2" "$plain" >"$work/$1/configs/train/it.toml"
  sed -e "s/^name = \"it\"/name = \"slow\"/" -e 's/^num_hidden_layers = 3/num_hidden_layers = 4/' "$work/$1/configs/train/it.toml" >"$work/$1/configs/train/slow.toml"
  printf 'name = "p"\nsubjects = [%s]\n[[task]]\nname = "boolq"\n' "$3" >"$work/$1/configs/suites/p.toml"
}
rule() { printf '[[rule]]\nname = "%s"\nmetric = "%s"\nkind = "%s"\nlimit = %s\n%s\n' "$@"; }
# expect CODE VERDICT WHAT arguments…
expect() {
  local code=0 want=$1 word=$2 what=$3
  shift 3
  "$harness" gate "$@" >"$work/said.txt" 2>"$work/log.txt" || code=$?
  if [ "$code" != "$want" ] || ! grep -q "^gate: $word" "$work/said.txt"; then
    cat "$work/said.txt" "$work/log.txt"
    echo "error: $what: expected exit $want and verdict $word, found exit $code"
    exit 1
  fi
  echo "$what: $(head -1 "$work/said.txt") (exit $code)"
}

rule parameters params_total exact 0 "" >"$work/params.toml"
rule memory peak_alloc_bytes near-exact 0.02 "" >"$work/memory.toml"
rule time train_step_s noisy 0.05 'where = { subject = "slow" }' >"$work/time.toml"
rule accuracy acc quality 0.002 "" >"$work/acc.toml"

project base '' '"it"'
# 352 + 7 units: 3 layers · 3 matrices · 128 · 7 = 8064 of about 0.73 M parameters.
project wide 's/^intermediate_size = 352/intermediate_size = 359/' '"it"'
project deep 's/^num_hidden_layers = 3/num_hidden_layers = 4/' '"it"'
project pair '' '"it", "slow"'
for rules in params memory; do
  "$harness" gate accept --reason "planted regressions" --rules "$work/$rules.toml" --suite "$work/base/configs/suites/p.toml" \
    --baseline "$work/baseline-$rules" --out "$work/out-accept" >/dev/null
done
judged() { echo --rules "$work/$2.toml" --suite "$work/$1/configs/suites/p.toml" --baseline "$work/baseline-$2" --out "$work/out-$1-$2"; }
# shellcheck disable=SC2046
{
  expect 0 pass "unchanged parameters" $(judged base params)
  expect 1 fail "+1 % parameters" $(judged wide params)
  expect 0 pass "unchanged memory" $(judged base memory)
  expect 1 fail "+10 % memory" $(judged deep memory)
}

# 1000 documents answered by both; the candidate loses ten that the reference had.
documents() {
  mkdir -p "$work/$1"
  local at value
  for at in $(seq 0 999); do
    value=$((at % 3 != 0))
    [ "$at" -ge "$2" ] || value=0
    printf '{"schema":1,"record_id":"","run_id":"%s","source":"measured","kind":"document","subject":"it","variant":"plain","task":"boolq","doc_id":"%d","seed":0,"metric":"acc","value":%d,"unit":"fraction","better":"higher","status":"ok"}\n' "$1" "$at" "$value"
  done >"$work/$1/records.jsonl"
}
documents before 0
documents after 15 # documents 0 to 14: ten of them were right
expect 0 pass "unchanged accuracy" --rules "$work/acc.toml" --candidate "$work/before" --baseline "$work/before" --out "$work/out-acc"
expect 1 fail "−1 point of accuracy" --rules "$work/acc.toml" --candidate "$work/after" --baseline "$work/before" --out "$work/out-acc"

expect 1 fail "+20 % time" --rules "$work/time.toml" --suite "$work/pair/configs/suites/p.toml" --baseline "$work/none" --out "$work/out-time"
echo "every planted regression was refused"
