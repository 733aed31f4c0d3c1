#!/usr/bin/env bash
# Everything that must hold before a change lands, cheapest first. CI runs it unchanged.
#   bash ci/check.sh
# Needs a Rust toolchain and a C compiler. As root on a machine with apt it installs gcc and libc6-dev where there is no compiler, and tries to
# install Chromium (optional); cargo fetches the crates, and rustup the pinned toolchain.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_INCREMENTAL=0 CARGO_TERM_COLOR=never INSTA_UPDATE=no

step() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }

if ! command -v cc >/dev/null 2>&1; then
  if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    step "install a C compiler"
    apt-get update -qq && apt-get install -y -qq gcc libc6-dev
  else
    echo "error: no C compiler found (cc)"; exit 2
  fi
fi

# The report's page is tested in a browser where there is one. Without apt, or without a network, that test says that it is skipped.
if ! command -v chromium >/dev/null 2>&1 && command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
  step "install a browser for the report's test"
  { timeout 300 apt-get update -qq && timeout 600 apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 \
    || echo "no browser: the page test will be skipped"
fi

step "format"
cargo fmt --all --check

# One selection of packages and targets in every command below: another one would build the dependencies again.
step "clippy"
cargo clippy --workspace --all-targets --quiet -- -D warnings

step "tests"
if cargo nextest --version >/dev/null 2>&1; then
  cargo nextest run --workspace --all-targets --no-fail-fast --status-level slow --final-status-level fail
  step "documentation tests"
  cargo test --workspace --doc --quiet
else
  cargo test --workspace --quiet
fi

step "laurel on plain candle operations"
cargo test -p laurel --no-default-features --quiet

step "portable code paths" # the kernels' own tests run every level too
portable=$(mktemp -d)
cargo run -q -p harness -- train --config configs/train/lm-tiny-rw+lr+pa.toml --max-steps 5 --set optimizer.warmup_steps=1 \
  --cpu-features portable --runs-dir "$portable" >/dev/null
rm -rf "$portable"

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

step "configs"
cargo run -q -p harness -- list models >/dev/null
cargo run -q -p harness -- list suites >/dev/null

step "smoke gate"
bash ci/smoke_gate.sh

step "done"
