#!/usr/bin/env bash
# From a folder of raw videos to a model that talks, in three commands: prepare, train, generate.
#
#   examples/end_to_end.sh [FOLDER] [RAW_VIDEOS]
#
# Everything is written to FOLDER (by default outputs/end-to-end). Without RAW_VIDEOS, raw videos of every kind are generated first: good ones,
# a broken one, one that is silent, one without a face, one with two faces, one out of sync, and one of 50 minutes. The toy size takes minutes on
# two cores; for a model that talks well, give your own videos and RECIPE=embedded. Run it again after an interruption to resume.
set -euo pipefail

work="${1:-outputs/end-to-end}"
raw="${2:-}"
recipe="${RECIPE:-tiny}"
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
python="${PYTHON:-python}"
command=("$python" -m fantasytalking.cli)
example="$("$python" -c 'from importlib.resources import files; print(files("fantasytalking") / "models" / "embedded" / "example")')"

# Tells which step runs; the commands show their own progress.
step() { echo "== $1" >&2; }

if [ -z "$raw" ]; then
  step "raw videos: rendering a dozen, half a minute to two"
  raw="$work/raw"
  [ -f "$raw/catalogue.jsonl" ] || "$python" "$here/raw_videos.py" "$raw" --minutes "${MINUTES:-50}"
fi

step "prepare"
"${command[@]}" prepare "$raw" --output "$work/set" --workers "${WORKERS:-2}"
step "train"
"${command[@]}" train "$recipe" --data "$work/set" --output "$work/run"
step "generate"
"${command[@]}" generate --model "$work/run/model" --image "$example/portrait.png" --audio "$example/speech.wav" \
  --output "$work/talking.mp4" --overwrite

echo "report: $work/set/report.html"
echo "$work/talking.mp4"
