#!/usr/bin/env bash
# See it work. Without options: masks on real photos by the weights in demo/, in seconds once everything is installed.
# With --train: make pictures of shapes, train RefineMask on them from scratch, test and draw, about ten minutes on two CPU
# cores. Interrupt the training at will: the next run goes on from there.
#
#   bash tools/demo.sh [--train] [OUT]           results in OUT (default: work_dirs/demo)
#
# MMREFINE_PYTHON names the interpreter of an environment to use instead of .venv.
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."
TRAIN=
if [[ ${1:-} == --train ]]; then
    TRAIN=1
    shift
fi
if [[ ${1:-} == -* || $# -gt 1 ]]; then
    echo "demo: $* cannot be used: bash tools/demo.sh [--train] [OUT]" >&2
    exit 2
fi
if [[ -n ${MMREFINE_PYTHON:-} ]]; then
    bash tools/install.sh --no-venv --python "$MMREFINE_PYTHON"
else
    bash tools/install.sh
    MMREFINE_PYTHON=$PWD/.venv/bin/python
fi

OUT=${1:-work_dirs/demo}
mkdir -p "$OUT" && [[ -w $OUT ]] || { echo "demo: cannot write to $OUT: name another folder" >&2; exit 1; }
OUT=$(cd "$OUT" && pwd -P)
export MMREFINE_SHAPES=$OUT/shapes PYTHONWARNINGS=ignore PYTHONUNBUFFERED=1
PATH=$(dirname "$MMREFINE_PYTHON"):$PATH

if [[ -z $TRAIN ]]; then
    python tools/predict.py demo/photos --config configs/refinemask/refinemask_mobilenetv2_fpn_1k_windows.py \
        --checkpoint demo/refinemask_windows.safetensors --score 0.5 --out "$OUT/photos"
    echo "the photos and the weights: demo/README.md; a training from scratch: bash tools/demo.sh --train"
    exit
fi

CONFIG=configs/refinemask/refinemask_tiny_shapes.py
step() { echo; echo "== $* ($((SECONDS - BEGAN)) s)"; }
BEGAN=$SECONDS
trap 'echo; echo "demo: stopped; run it again to go on"; exit 130' INT TERM

step '1 of 4: generated shapes'
python tools/make_shapes.py "$OUT/shapes"

step "2 of 4: train $CONFIG from scratch"
if [[ -f $OUT/train/done ]]; then
    echo "trained already: remove $OUT/train to do it again"
else
    mim train mmdet "$CONFIG" --gpus 0 --work-dir "$OUT/train" --resume
    touch "$OUT/train/done"
fi
CHECKPOINT=$(< "$OUT/train/last_checkpoint")

step "3 of 4: test $(basename "$CHECKPOINT")"
mim test mmdet "$CONFIG" --checkpoint "$CHECKPOINT" --gpus 0 --work-dir "$OUT/test" --out "$OUT/results.pkl"

step '4 of 4: pictures'
python tools/draw_results.py "$CONFIG" "$OUT/results.pkl" "$OUT/pictures"
python tools/plot_training.py "$OUT/train" "$OUT/training.png"

AP=$(python -c '
import glob, json, sys
newest = max(glob.glob(sys.argv[1] + "/test/*/[0-9]*.json"))
print(json.load(open(newest))["coco/segm_mAP"])' "$OUT")
step 'done'
echo "mask AP $AP on $(ls "$OUT/shapes/val" | wc -l) validation pictures"
echo "ground truth beside prediction: $OUT/pictures/sheet.jpg"
echo "losses and AP:                  $OUT/training.png"
