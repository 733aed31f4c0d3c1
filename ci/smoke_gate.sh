#!/usr/bin/env bash
# The gate's rules that need no clock: parameters, FLOPs, allocations at one thread. Then a planted regression, which must fail.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
harness() { cargo run -q -p harness -- "$@"; }

harness gate --out "$out/gate"

# A candidate with one parameter in a hundred more must be refused with exit code 1.
python3 - "$out/gate" "$out/planted" 2>/dev/null <<'PLANT' || { echo "no python3: the planted regression is covered by the tests"; exit 0; }
import json, pathlib, sys
source, target = map(pathlib.Path, sys.argv[1:])
target.mkdir(parents=True)
rows = []
for path in sorted(source.rglob("records.jsonl")):
    for line in path.read_text().splitlines():
        row = json.loads(line)
        if row.get("metric") == "params_total":
            row["value"] = round(row["value"] * 1.01)
        row.pop("record_id", None)
        rows.append(row)
(target / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
PLANT
if harness gate --candidate "$out/planted" --out "$out/judged" >"$out/planted.txt"; then
  cat "$out/planted.txt"; echo "error: a planted regression of 1 % passed the gate"; exit 1
fi
grep -q "fail" "$out/planted.txt"
echo "the planted regression was refused"
