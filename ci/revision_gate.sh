#!/usr/bin/env bash
# Step time of this revision against the merge base: builds both, measures both interleaved, judges by ci/gate-time.toml.
#   bash ci/revision_gate.sh [BRANCH]          BRANCH: what this revision will be merged into; default: origin/main, else main
# Skips with a reason where there is nothing to compare. Records and verdicts: GATE_OUT, else runs/_revision_gate. Exit code: the gate's.
set -euo pipefail
cd "$(dirname "$0")/.."
skip() { echo "revision gate skipped: $1"; exit 0; }

git rev-parse --git-dir >/dev/null 2>&1 || skip "no git history"
branch=${1:-}
if [ -z "$branch" ]; then
  for candidate in origin/main main; do
    if git rev-parse --verify --quiet "$candidate" >/dev/null; then branch=$candidate; break; fi
  done
fi
[ -n "$branch" ] || skip "no branch to compare with: name one"
base=$(git merge-base HEAD "$branch" 2>/dev/null) || skip "no merge base with \`$branch\` (a shallow clone? fetch more history)"
# What the program is made of; documents, rules and records cannot change a time.
sources=(Cargo.toml Cargo.lock .cargo rust-toolchain.toml configs harness images kernels laurel models records reports stats tasks)
if git diff --quiet "$base" -- "${sources[@]}" && [ -z "$(git ls-files --others --exclude-standard -- "${sources[@]}")" ]; then
  skip "no source differs from the merge base $(git rev-parse --short "$base")"
fi

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
work=$(mktemp -d)
trap 'git worktree remove --force "$work/base" >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
git worktree add --quiet --detach "$work/base" "$base"
echo "== merge base $(git rev-parse --short "$base")"
# One target folder for both: what is equal is built once. The base's program is copied away before ours replaces it.
(cd "$work/base" && CARGO_TARGET_DIR="$target" cargo build --release --quiet -p harness)
cp "$target/release/harness" "$work/reference"
echo "== this revision"
cargo build --release --quiet -p harness
"$target/release/harness" gate --rules ci/gate-time.toml --reference-program "$work/reference" --out "${GATE_OUT:-runs/_revision_gate}"
