#!/usr/bin/env bash
# Measures a campaign of brim's beside the usual way to do the same trials. As root, on a machine that does nothing else.
#
#   bash bench/campaign.sh [BRIM]
#
# First the whole of configs/campaigns/free-space-and-records.toml: 3417 trials on the running kernel, the preparation of 201 amounts of
# free space and all. Then, ROUNDS times one after the other, so that whatever else the machine does meets all alike: every tenth amount of it
# (357 trials), and CELLS of these cells, spread over all of them, the usual way, which makes, mounts, fills and unmounts a
# filesystem for each trial: as a script (bench/usual.sh) and as one program (bench/usual.c), which is as fast as we could make
# it; one at a time, and as many at once as there are processors.
set -euo pipefail
cd "$(dirname "$0")/.."
brim=${1:-target/release/brim}
rounds=${ROUNDS:-3}
cells=${CELLS:-34}
out=$(mktemp -d)
trap 'umount "$out/tmpfs" 2>/dev/null || true; rm -rf "$out"' EXIT
cc -O2 -o "$out/usual" bench/usual.c
mkdir "$out/tmpfs"
mount -t tmpfs -o size=1g bench "$out/tmpfs"
processes=$(nproc)
echo "kernel $(uname -r), $processes processors" >&2

# Ends with 1 where a cell is not as known, which is no failure here.
campaign() {
    "$brim" campaign run "$1" --out "$2" >"$2.report" 2>/dev/null || [ $? = 1 ]
    tail -1 "$2/times.jsonl"
}

if [ -z "${PAIRED_ONLY:-}" ]; then
    campaign free-space-and-records "$out/whole" | tee "$out/whole.time"
    cat "$out/whole.report"
fi

sed 's/"0\.\.200 blocks"/"0..200 blocks step 10 blocks"/' configs/campaigns/free-space-and-records.toml >"$out/tenth.toml"
: >"$out/times"
for round in $(seq "$rounds"); do
    campaign "$out/tenth.toml" "$out/tenth-$round" | sed 's/^/brim 0 /' >>"$out/times"
    for way in "script 1" "script $processes" "program 1" "program $processes"; do
        read -r what at_once <<<"$way"
        run=("$out/usual")
        [ "$what" = program ] || run=(bash bench/usual.sh "$out/usual")
        began=$(date +%s.%N)
        for index in $(seq "$at_once"); do
            mkdir -p "$out/tmpfs/$index"
            # Each its share: another record each time, and another amount.
            "${run[@]}" "$out/tmpfs/$index" $((cells / at_once)) $(((index - 1) * 3417 / cells)) $((3417 * at_once / cells)) \
                >"$out/usual-$what-$at_once-$index-$round" 2>/dev/null &
        done
        wait
        echo "$what $at_once $((cells / at_once * at_once)) $(date +%s.%N) $began" >>"$out/times"
    done
done
python3 - "$out" <<'P'
import glob, json, sys
out = sys.argv[1]
brim, usual = [0, 0.0], {}
for line in open(out + "/times"):
    what, at_once, rest = line.split(" ", 2)
    if what == "brim":
        run = json.loads(rest)
        brim = [brim[0] + run["trials"], brim[1] + run["seconds"]]
        continue
    trials, ended, began = rest.split()
    sums = usual.setdefault((what, at_once), [0, 0.0])
    usual[what, at_once] = [sums[0] + int(trials), sums[1] + float(ended) - float(began)]
rate = brim[0] / brim[1]
print(f"brim: {brim[0]} trials in {brim[1]:.1f} s, {rate:.1f} a second")
for (what, at_once), (trials, seconds) in usual.items():
    print(f"a {what}, {at_once} at once: {trials} trials in {seconds:.1f} s, {trials / seconds:.1f} a second; brim {rate * seconds / trials:.1f} times as many")
# Both ways say the same of every cell that both tried.
said = {}
for name in glob.glob(out + "/*/result.json"):
    for cell in json.load(open(name))["cells"]:
        key = cell["params"]["free"].split()[0], cell["params"]["record"].split()[0]
        said[key] = next(iter(cell["signatures"])).split("/")[0]
lines = [line.split() for name in glob.glob(out + "/usual-*") for line in open(name)]
both = [(said[line[0], line[2]], line[4], line) for line in lines if (line[0], line[2]) in said]
print(f"{len(both)} trials of cells that were tried both ways, {sum(one != other for one, other, _ in both)} came out otherwise")
P
