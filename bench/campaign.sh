#!/usr/bin/env bash
# Measures a campaign of brim's beside the usual way to do the same trials. As root, on a machine that does nothing else.
#
#   bash bench/campaign.sh [BRIM]
#
# brim runs configs/campaigns/free-space-and-records.toml: 3417 trials on the running kernel, preparations of 201 amounts of free space
# and all. The usual way makes, mounts, fills and unmounts a filesystem for each trial: SAMPLE of the same cells, spread over all of
# them; as a script (bench/usual.sh) and as one program (bench/usual.c), which is as fast as we could make it; one at a time, and as
# many at once as there are processors.
set -euo pipefail
cd "$(dirname "$0")/.."
brim=${1:-target/release/brim}
sample=${SAMPLE:-201}
out=$(mktemp -d)
trap 'umount "$out/tmpfs" 2>/dev/null || true; rm -rf "$out"' EXIT
cc -O2 -o "$out/usual" bench/usual.c
mkdir "$out/tmpfs"
mount -t tmpfs -o size=1g bench "$out/tmpfs"

echo "kernel $(uname -r), $(nproc) processors" >&2
"$brim" campaign run free-space-and-records --out "$out/campaign" >"$out/report" 2>/dev/null || [ $? = 1 ]
tail -1 "$out/campaign/times.jsonl"

processes=$(nproc)
for way in "script 1" "script $processes" "program 1" "program $processes"; do
    read -r what at_once <<<"$way"
    began=$(date +%s.%N)
    for index in $(seq "$at_once"); do
        mkdir -p "$out/tmpfs/$index"
        # Each its share of the sample, spread over all cells.
        step=$((3417 * at_once / sample))
        run=("$out/usual")
        [ "$what" = program ] || run=(bash bench/usual.sh "$out/usual")
        "${run[@]}" "$out/tmpfs/$index" $((sample / at_once)) $(((index - 1) * 3417 / sample)) "$step" \
            >"$out/usual-$what-$at_once-$index" 2>/dev/null &
    done
    wait
    ended=$(date +%s.%N)
    python3 - "$what" "$at_once" "$began" "$ended" "$sample" "$out/campaign/times.jsonl" <<'P'
import json, sys
what, at_once, began, ended, sample, times = sys.argv[1:]
run = json.loads(open(times).read().splitlines()[-1])
brim = run["trials"] / run["seconds"]
done = int(sample) // int(at_once) * int(at_once)
usual = done / (float(ended) - float(began))
print(f"brim, {run['workers']} workers: {run['trials']} trials in {run['seconds']:.1f} s, {brim:.1f} a second; "
      f"the usual way as a {what}, {at_once} at once: {done} in {float(ended) - float(began):.1f} s, {usual:.1f} a second; {brim / usual:.1f} times")
P
done
# Both ways say the same of every cell that both tried.
python3 - "$out"/campaign "$out"/usual-program-1-1 "$out"/usual-script-1-1 <<'P'
import json, sys
cells = {}
for cell in json.load(open(sys.argv[1] + "/result.json"))["cells"]:
    cells[cell["params"]["free"].split()[0], cell["params"]["record"].split()[0]] = next(iter(cell["signatures"])).split("/")[0]
both = [(line.split()[0], line.split()[2], line.split()[4]) for name in sys.argv[2:] for line in open(name)]
differ = [(free, record) for free, record, step in both if cells[free, record] != step]
print(f"{len(both)} cells were tried both ways, {len(differ)} came out otherwise: {differ}")
P
