"""Makes bench/RESULTS.md of compare.sh's samples, and prints the short table: MACHINE FREE.tsv SAME.tsv OUT ROUNDS."""

import csv
import statistics
import sys

STORES = ["nbdkit-memory", "nbdkit-memory-t1", "nbdkit-file-tmpfs", "qemu-nbd-tmpfs", "nbd-server-tmpfs"]
MAIN = ["randread-q1", "randwrite-q1", "randread-q64", "randwrite-q64", "seqread-256k-q16", "seqwrite-256k-q16",
        "nbdcopy-read", "blast-read-q64", "blast-write-q64"]


def medians(path, rounds):
    """Of each (workload, server): IOPS, MiB/s, server CPU in µs per request, by the samples without foreign load.

    And what there is too little of.
    """
    groups = {}
    with open(path, encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            samples = groups.setdefault((row["workload"], row["server"]), [])
            # A client that failed leaves a row of zeroes.
            if float(row["iops"]) > 0:
                samples.append(row)
    wanted = {(workload, server) for workload, _ in groups for server in [*STORES, *(name for _, name in groups), "brim"]}
    missing = [f"{server}, {workload}: {len(groups.get((workload, server), []))} of {rounds} samples"
               for workload, server in sorted(wanted) if len(groups.get((workload, server), [])) < rounds]
    groups = {key: rows for key, rows in groups.items() if rows}
    found = {}
    for key, rows in groups.items():
        clean = [row for row in rows if int(row["foreign_pct"]) <= 25]
        rows = clean if len(clean) >= 3 else rows
        cpu = [float(row["server_cpu_us_per_op"]) for row in rows if row["server_cpu_us_per_op"][:1].isdigit()]
        found[key] = (
            statistics.median(float(row["iops"]) for row in rows),
            statistics.median(float(row["MiB/s"]) for row in rows),
            statistics.median(cpu) if cpu else None,
        )
    return found, missing


def figure(workload, value):
    if value is None:
        return "–"
    return f"{value[1]:.0f} MiB/s" if "seq" in workload or "copy" in workload else f"{value[0] / 1000:.1f} k"


def table(found, workloads, short=False):
    servers = list(dict.fromkeys(server for _, server in found))
    others = [server for server in servers if server not in ("brim", "ceiling") and (server in STORES or not short)]
    lines = [["workload", "brim", *others, "brim / best that stores", "ceiling"]]
    if not short:
        lines[0].append("CPU µs/request: brim, best")
    for workload in workloads:
        ours = found.get((workload, "brim"))
        peers = [found[workload, server] for server in STORES if (workload, server) in found]
        best = max((peer[0] for peer in peers), default=0)
        ratio = f"{ours[0] / best:.2f}" if ours and best else "–"
        line = [workload, *(figure(workload, found.get((workload, server))) for server in ["brim", *others]), ratio,
                figure(workload, found.get((workload, "ceiling")))]
        if not short:
            costs = [peer[2] for peer in peers if peer[2] is not None]
            mine = f"{ours[2]:.2f}" if ours and ours[2] is not None else "–"
            line.append(f"{mine}, {min(costs):.2f}" if costs else f"{mine}, –")
        lines.append(line)
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main(machine, free, same, out, rounds):
    free, missing = medians(free, int(rounds))
    same, missing_same = medians(same, int(rounds))
    missing += [f"on one processor, {line}" for line in missing_same]
    workloads = list(dict.fromkeys(workload for workload, _ in free))
    pinned = list(dict.fromkeys(workload for workload, _ in same))
    with open(machine, encoding="utf-8") as file:
        facts = "".join(f"- {line}" for line in file)
    with open(out, "w", encoding="utf-8") as file:
        file.write(
            "# How fast the NBD server is\n\n"
            f"Written by `bash bench/run.sh`.\n\n{facts}\n"
            "Medians. Requests are of 4 KiB unless the name says more; `k` is thousands a second. `q64` has 64 requests in\n"
            "flight, `q16x4` 16 on each of four connections. `blast-` is bench/nbdblast.c, a client that costs little; the\n"
            "others are fio and nbdcopy. The ratio is against the best server that keeps what is written: the null backends\n"
            "are shown and left out. The ceiling is bench/ceiling.c, which keeps nothing and looks at nothing: no server is faster\n"
            "with this client on this machine.\n\n"
            f"{table(free, workloads)}\n"
            "## Client and server on one processor\n\n"
            f"{table(same, pinned)}"
        )
    print(table(free, [workload for workload in MAIN if workload in workloads], short=True), end="")
    print(f"{out} is written", file=sys.stderr)
    if missing or not free or not same:
        sys.exit("\n".join(["too little was measured:", *missing]))


main(*sys.argv[1:])
