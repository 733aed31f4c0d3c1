#!/usr/bin/env bash
# Our training step and inference beside PyTorch's: the same work, threads and precision, run alternately, ratios with their range.
#   PYTHON=path/to/python PEERS=../shared/bench bash ci/bench_peers.sh [ROUNDS] > docs/peers.md
# PYTHON is an interpreter with torch, torchvision and transformers; PEERS the folder of the PyTorch scripts, each of which prints one JSON
# object. Takes about two minutes a round on two idle cores; on a busy machine the ratios mean little.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-3} threads=${THREADS:-2} peers=${PEERS:-../shared/bench}
if [ -z "${PYTHON:-}" ] || ! "$PYTHON" -c 'import torch, torchvision, transformers' 2>/dev/null; then
  echo "error: PYTHON: expected an interpreter with torch, torchvision and transformers, found \`${PYTHON:-nothing}\`" >&2
  exit 2
fi
cargo build --release --quiet -p kernels -p models --example gpt_step --example resnet_step --example llm_infer
ours=${CARGO_TARGET_DIR:-target}/release/examples
table5="--hidden 768 --layers 24 --heads 12 --intermediate 2048 --sequence 512 --batch 2 --vocab 32000 --tied"
# name | ours | PyTorch's | figures of the JSON objects and what they are called, where it is not `median_s`
cases="LM step d384 L6 T256 b8, f32|$ours/gpt_step --numerics f32 --threads $threads --steps 4 --warmup 1|torch_lm_step.py --threads $threads --steps 4 --warmup 1
the same, bf16|$ours/gpt_step --numerics bf16 --threads $threads --steps 4 --warmup 1|torch_lm_step.py --dtype bf16 --threads $threads --steps 4 --warmup 1
the same, f32 beside torch at medium precision|$ours/gpt_step --numerics f32 --threads $threads --steps 4 --warmup 1|torch_lm_step.py --medium --threads $threads --steps 4 --warmup 1
LM step, Table 5 shape (157 M), T512 b2, bf16|$ours/gpt_step --numerics bf16 --threads $threads --steps 2 --warmup 1 $table5|torch_lm_step.py --dtype bf16 --threads $threads --steps 2 --warmup 1 $table5
ResNet-20 step, 32², batch 128, f32|$ours/resnet_step cifar20 6 $threads 128 f32|torch_resnet_step.py --model cifar20 --mode train --batch 128 --threads $threads --steps 6 --channels-last
the same, bf16|$ours/resnet_step cifar20 6 $threads 128 bf16|torch_resnet_step.py --model cifar20 --mode train --batch 128 --threads $threads --steps 6 --channels-last --dtype bf16
ResNet-50 forward, 224², batch 8, f32, batch norm folded|$ours/resnet_step resnet50 5 $threads 8 f32|torch_resnet_step.py --model resnet50 --mode infer --fold --batch 8 --threads $threads --steps 5 --channels-last
the same, bf16|$ours/resnet_step resnet50 5 $threads 8 bf16|torch_resnet_step.py --model resnet50 --mode infer --fold --batch 8 --threads $threads --steps 5 --channels-last --dtype bf16
1.10 B Llama shape, bf16|$ours/llm_infer --threads $threads --repeats 2 --output 24|torch_llm_infer.py --dtype bf16 --threads $threads --repeats 2 --output 24|prefill_s:prefill-of-512 tpot_s:decode"

# Seconds of a run: the figure of that name of its JSON, or `median N ms` of its line.
seconds() { sed -nE "s/.*\"$1\": ([0-9.e-]+).*/\1/p; s/.*median ([0-9.]+) ms.*/\1e-3/p"; }

echo "# Speed beside PyTorch"
echo
echo "    PYTHON=path/to/python PEERS=$peers THREADS=$threads bash ci/bench_peers.sh $rounds > docs/peers.md"
echo
echo "Seconds per step or forward pass, medians; ratio ours / PyTorch, median and range of $rounds alternating rounds, $threads threads."
echo "$(date -u +%F), $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores, torch $("$PYTHON" -c 'import torch; print(torch.__version__)'), load before: $(cut -d' ' -f1 /proc/loadavg)."
echo
echo "| work | ours | PyTorch | ratio | range |"
echo "|---|---|---|---|---|"
while IFS='|' read -r name mine theirs figures; do
  a=() b=()
  for _ in $(seq "$rounds"); do
    # A run that fails gives no time, and its line says so. Word splitting of the commands is meant.
    a+=("$($mine </dev/null || true)")
    b+=("$("$PYTHON" "$peers"/$theirs </dev/null || true)")
  done
  while IFS=: read -r figure what; do
    for round in "${!a[@]}"; do
      echo "$(seconds "$figure" <<<"${a[$round]}") $(seconds "$figure" <<<"${b[$round]}")"
    done | awk -v name="$name${what:+, ${what//-/ }}" '
    function middle(v, n,   i, j, t) {
      for (i = 2; i <= n; i++) for (j = i; j > 1 && v[j] < v[j - 1]; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
      return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
    }
    NF < 2 { bad = 1 }
    { n++; a[n] = $1 + 0; b[n] = $2 + 0; if ($2 + 0 > 0) r[n] = $1 / $2 }
    END {
      if (bad) { print "| " name " | a run printed no time | | | |"; exit 1 }
      m = middle(r, n); printf "| %s | %.3f | %.3f | %.2f | %.2f–%.2f |\n", name, middle(a, n), middle(b, n), m, r[1], r[n]
    }'
  done < <(tr ' ' '\n' <<<"${figures:-median_s}")
done <<<"$cases"
