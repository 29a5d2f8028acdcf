#!/bin/bash
# The validation table and the ablation table of docs/results.md: trains every network for the same CPU
# time on the same split, and scores them on the same slices. About ten CPU-hours; what is done is
# not done again, so it can be stopped and repeated.
#
#   benchmarks/validation_table.sh DERIVATIVES... (of --preproc-only: brats_train, simulated heads)
#
# RUNS    where runs, cache and tables go         (build/comparisons)
# JOBS    trainings at a time, a thread each      (2)
# MINUTES of each network for the table           (60)
# ABLATION_MINUTES of each ablation               (20)
set -euo pipefail

RUNS=${RUNS:-build/comparisons} JOBS=${JOBS:-2}
MINUTES=${MINUTES:-60} ABLATION_MINUTES=${ABLATION_MINUTES:-20}
DATA=("$@")
SPLITS=colapipe/training/splits
export OMP_NUM_THREADS=1 RUNS
mkdir -p "$RUNS"

train() { # NAME MINUTES OPTIONS...
    local name=$1 minutes=$2
    shift 2
    [ -f "$RUNS/$name/done" ] && return
    # How many iterations a plan allows depends on how busy the machine was when it was made: other
    # seeds of a network get as many as the first.
    local budget=(--cpu-minutes "$minutes") planned
    if [[ $name =~ -[1-9]$ ]]; then
        planned=$(sed -n 's/ iterations, about.*//p' "$RUNS/${name%-*}-0.log" | head -n 1)
        budget=(--iterations "$planned")
    fi
    colapipe-model train --data "${DATA[@]}" --cache "$RUNS/slices" --out "$RUNS/$name" \
        --split $SPLITS/cola-tiny.json --name "$name" "${budget[@]}" --batch-size 4 \
        --precision bfloat16 --save-every 500 "$@" >> "$RUNS/$name.log" 2>&1 && touch "$RUNS/$name/done"
}

# The cache first, so that the trainings share it.
colapipe-model train --data "${DATA[@]}" --cache "$RUNS/slices" --out "$RUNS/cache-only" \
    --split $SPLITS/cola-tiny.json --preset nano --iterations 1 --batch-size 1 > /dev/null

{
    echo "tiny $MINUTES --preset tiny"
    echo "unet $MINUTES --preset unet"
    echo "ldm $MINUTES --preset ldm"
    echo "mmgan $MINUTES --preset mmgan --learning-rate 2e-4"
    for seed in 0 1 2; do
        echo "whole-$seed $ABLATION_MINUTES --preset tiny --seed $seed"
        echo "no-net-$seed $ABLATION_MINUTES --preset tiny --seed $seed --set latent_net=plain"
        echo "no-structure-$seed $ABLATION_MINUTES --preset tiny --seed $seed --set structure=false"
        echo "no-awa-$seed $ABLATION_MINUTES --preset tiny --seed $seed --set gate=off"
        echo "no-scf-$seed $ABLATION_MINUTES --preset tiny --seed $seed --set scf=off"
        # No part is taken away here: tiny does without the transformer over the conditions.
        echo "transformer-$seed $ABLATION_MINUTES --preset tiny --seed $seed --set injection=both"
    done
} > "$RUNS/jobs"
export -f train
export SPLITS
declare -p DATA > "$RUNS/data"
xargs -P "$JOBS" -d '\n' -n 1 bash -c 'source "$RUNS/data"; read -ra words <<< "$0"; train "${words[@]}"' \
    < "$RUNS/jobs"

FOUR=(--targets T1w T2w T1ce FLAIR)
model() { echo "$RUNS/$1/model.safetensors"; }
# On the real validation participants; the simulated one serves PDw alone.
score() { # MODEL... OPTIONS...
    colapipe-model evaluate "$@" --cache "$RUNS/slices" --split $SPLITS/brats_train.json
}
score "$(model unet)" "$(model mmgan)" --baselines copy quadratic class-mean "${FOUR[@]}" \
    --out "$RUNS/table"
score "$(model tiny)" "$(model ldm)" --steps 1 4 --ceiling "${FOUR[@]}" --out "$RUNS/table"
score "$(model tiny)" --steps 10 "${FOUR[@]}" --out "$RUNS/table"
score "$(model tiny)" --steps 4 --samples 8 "${FOUR[@]}" --out "$RUNS/table"
# The same scores, each paired with another model's.
for other in unet ldm; do
    rm -rf "$RUNS/against-$other"
    cp -r "$RUNS/table" "$RUNS/against-$other"
    [ $other = ldm ] && steps=(--steps 1) reference="ldm, 1 step" || steps=() reference=$other
    score "$(model $other)" "${steps[@]}" --reference "$reference" "${FOUR[@]}" \
        --out "$RUNS/against-$other"
done
score "$(model tiny)" --steps 1 50 --slices 16 "${FOUR[@]}" --out "$RUNS/fifty-steps"
score "$(model tiny)" --steps 1 4 --targets T2w --sources T1w T1w+T1ce T1w+T1ce+FLAIR \
    --out "$RUNS/more-inputs"
# With one step, as `tiny` is used: more would add their noise to each difference.
for seed in 0 1 2; do
    score "$(model "whole-$seed")" "$(model "no-net-$seed")" "$(model "no-structure-$seed")" \
        "$(model "no-awa-$seed")" "$(model "no-scf-$seed")" "$(model "transformer-$seed")" \
        --steps 1 --reference "whole-$seed" "${FOUR[@]}" --out "$RUNS/ablation-$seed"
done
python benchmarks/ablation_table.py "$RUNS"/ablation-{0,1,2} > "$RUNS/ablations.md"
