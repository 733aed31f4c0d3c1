#!/usr/bin/env bash
# What the action does, runnable anywhere: inputs are the variables of action.yml; GITHUB_* files are written where they are set.
set -euo pipefail
arguments=(--rules "$RULES" --baseline "$BASELINE" --out "$OUT")
if [ -n "${CANDIDATE:-}" ]; then arguments+=(--candidate "$CANDIDATE"); else arguments+=(--suite "${SUITE:-smoke}"); fi
if [ -n "${REFERENCE_PROGRAM:-}" ]; then arguments+=(--reference-program "$REFERENCE_PROGRAM"); fi
if [ "${STRICT:-false}" = true ]; then arguments+=(--strict); fi
code=0
"${HARNESS:-harness}" gate "${arguments[@]}" || code=$?
if [ -f "$OUT/gate.json" ] && [ "$code" -le 1 ]; then
  cat "$OUT/gate.annotations"
  if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then cat "$OUT/gate.md" >>"$GITHUB_STEP_SUMMARY"; fi
  verdict=$(sed -n 's/^ *"verdict": *"\([a-z_]*\)".*/\1/p' "$OUT/gate.json" | head -1)
  if [ -n "${GITHUB_OUTPUT:-}" ]; then echo "verdict=$verdict" >>"$GITHUB_OUTPUT"; fi
fi
exit "$code"
