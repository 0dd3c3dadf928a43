#!/usr/bin/env bash
# Compares NBD servers with one client (fio --ioengine=nbd), nbdcopy and nbdblast, on UNIX sockets. bench/run.sh starts it.
#
#   bash bench/compare.sh [-r REPEATS] [-t SECONDS] [-s SIZE_GIB] [-w "wl1 wl2"] [-o OUT.tsv] [-p none|same|split] [-n NICE] [-q SECS] name=uri|name=@command ...
#
#   name=nbd+unix:///?socket=/tmp/x.sock   server already running (CPU column '-')
#   name=@command with $SOCK and $SIZE     bench starts it (export SOCK, SIZE bytes), waits for the socket,
#                                          measures, and kills exactly that process; gives server CPU us/op
#   bash bench/compare.sh --baselines                 runs the built-in baseline set
# -r N: rounds. -t N: seconds of a sample. -s N: GiB of the disk. -w "…": the workloads. -o FILE: where samples go.
#   -n N: run client and server at this nice level (a crowded machine: -n -10 as root).
#   -p same: client+server pinned to cpu0 (pure path cost, no cross-vCPU wakeup); split: client cpu0, server cpu1.
# Rounds are interleaved (round 1: every server, round 2: every server ...) so that machine noise hits all alike.
# -q N: wait (up to N s, default 0 = don't) before each sample until other processes use < 15% of one CPU.
# Every sample records foreign_pct = CPU used by anything that is neither client nor server (100 = one full CPU)
# and samples with foreign_pct > 25 are left out of the medians when >= 3 cleaner ones exist (n/clean shown).
# Prints the median of the repeats per (server, workload); raw samples go to OUT.tsv.
set -u
HERE=$(cd "$(dirname "$0")" && pwd)
TOOLS=$(mktemp -d); gcc -O2 -o "$TOOLS/nbdblast" "$HERE/nbdblast.c" || exit 3
REP=5 SECS=2 GIB=4 CP= SP= QUIET=0 NICE=0 OUT=${TMPDIR:-/tmp}/brim-bench.tsv
WLS="randread-q1 randwrite-q1 randread-q64 randwrite-q64 randread-q16x4 seqread-256k-q16 seqwrite-256k-q16 nbdcopy-read blast-read-q1 blast-write-q1 blast-read-q64 blast-write-q64"
SERVERS=()
while [ $# -gt 0 ]; do case "$1" in
 -r) REP=$2; shift 2;; -t) SECS=$2; shift 2;; -s) GIB=$2; shift 2;; -w) WLS=$2; shift 2;; -o) OUT=$2; shift 2;;
 -q) QUIET=$2; shift 2;; -n) NICE=$2; shift 2;;
 -p) case $2 in same) CP='taskset -c 0' SP='taskset -c 0';; split) CP='taskset -c 0' SP='taskset -c 1';; esac; shift 2;;
 --baselines)
  SERVERS+=('nbdkit-memory=@exec nbdkit -f -U $SOCK memory $SIZE'
   'nbdkit-memory-t1=@exec nbdkit -f -t 1 -U $SOCK memory $SIZE'
   'nbdkit-null=@exec nbdkit -f -U $SOCK null $SIZE'
   'nbdkit-file-tmpfs=@truncate -s $SIZE $IMG; exec nbdkit -f -U $SOCK file $IMG'
   'qemu-nbd-tmpfs=@truncate -s $SIZE $IMG; exec qemu-nbd -t -e 16 -f raw -k $SOCK $IMG'
   'qemu-nbd-nullco=@exec qemu-nbd -t -e 16 -k $SOCK --image-opts driver=null-co,size=$SIZE,read-zeroes=on'
   'nbd-server-tmpfs=@truncate -s $SIZE $IMG; printf "[generic]\nunixsock=$SOCK\nlistenaddr=127.0.0.1\nport=10899\nallowlist=true\n[export]\nexportname=$IMG\n" > $IMG.conf; nbd-server -C $IMG.conf -p $IMG.pid')
  shift;;
 *=*) SERVERS+=("$1"); shift;;
 *) sed -n '2,/^set /{/^set /d;p}' "$0"; exit 2;;
esac; done
[ $NICE != 0 ] && { CP="nice -n $NICE $CP" SP="nice -n $NICE $SP"; }
[ ${#SERVERS[@]} -gt 0 ] || { sed -n '2,/^set /{/^set /d;p}' "$0"; exit 2; }
TMP=$(mktemp -d); export IMG=/dev/shm/bench-$$.img
SIZE=$((GIB<<30)); export SIZE
PID=
cleanup(){ stop; rm -rf "$TMP" "$TOOLS" "$IMG" "$IMG".*; }
stop(){ [ -n "$PID" ] && { local k; k=$(tree); kill $k 2>/dev/null; wait "$PID" 2>/dev/null; }; PID=; rm -f "$IMG" "$IMG".*; }
tree(){ local q="$PID" all="$PID" n; while [ -n "$q" ]; do n=$(for p in $q; do cat /proc/$p/task/$p/children 2>/dev/null; done); all="$all $n"; q=$(echo $n); done; echo $all; }
trap cleanup EXIT; trap 'exit 130' INT TERM
cpu(){ # cpu seconds (user+sys ticks, 100 Hz) of the server's process tree, incl. reaped children
 [ -n "$PID" ] || { echo 0; return; }
 local t=0 f; for p in $(tree); do f=$(cut -d')' -f2- /proc/$p/stat 2>/dev/null) || continue; set -- $f; t=$((t+${12}+${13}+${14}+${15})); done; echo $t; }
busy(){ awk '/^cpu /{print $2+$3+$4+$7+$8+$9}' /proc/stat; }
quiet(){ # wait for a quiet machine
 local end=$((SECONDS+QUIET)) a b; while [ $SECONDS -lt $end ]; do a=$(busy); sleep 0.5; b=$(busy); [ $((b-a)) -le 8 ] && return; sleep 1; done; }
fio1(){ # uri rw bs qd jobs
 $CP fio --name=b --ioengine=nbd --uri="$1" --rw=$2 --bs=$3 --iodepth=$4 --numjobs=$5 --thread --group_reporting \
  --size=$SIZE --time_based --runtime=$SECS --ramp_time=0.2 --norandommap --randrepeat=0 --output-format=json --output="$TMP/fio.json" >/dev/null 2>"$TMP/fio.err"
}
foreign(){ # sets c1 and fr: CPU of everything that is not client/server, % of one CPU, since c0/b0/t0
 local b1=$(busy) t1=$(date +%s%N) k; c1=$(cpu); times >"$TMP/t1"
 k=$(awk 'function t(x, a){split(x,a,"m"); sub("s","",a[2]); return a[1]*6000+a[2]*100} FNR==2{v[FILENAME]=t($1)+t($2)} END{printf "%d", v[ARGV[2]]-v[ARGV[1]]}' "$TMP/t0" "$TMP/t1")
 fr=$(( (b1-b0-(c1-c0)-k)*1000000000/(t1-t0) )); [ $fr -lt 0 ] && fr=0; return 0; }
run(){ # name uri wl rep
 local u=$2 c0 c1 s e b0 t0 k0 fr
 quiet
 c0=$(cpu) b0=$(busy) t0=$(date +%s%N); times >"$TMP/t0"
 case $3 in
  randread-q1)       fio1 "$u" randread 4k 1 1;;
  randwrite-q1)      fio1 "$u" randwrite 4k 1 1;;
  randread-q64)      fio1 "$u" randread 4k 64 1;;
  randwrite-q64)     fio1 "$u" randwrite 4k 64 1;;
  randread-q16x4)    fio1 "$u" randread 4k 16 4;;
  seqread-256k-q16)  fio1 "$u" read 256k 16 1;;
  seqwrite-256k-q16) fio1 "$u" write 256k 16 1;;
  nbdcopy-read)
   s=$(date +%s%N); $CP nbdcopy --no-extents "$u" null: >/dev/null 2>"$TMP/fio.err" || { echo "nbdcopy failed: $1: $(head -1 $TMP/fio.err)" >&2; return; }; e=$(date +%s%N); foreign
   awk -v f=$fr -v n=$1 -v w=$3 -v r=$4 -v b=$SIZE -v t=$((e-s)) -v c=$((c1-c0)) -v p="${PID:-0}" 'BEGIN{printf "%s\t%s\t%d\t%.1f\t%.1f\t0\t0\t%s\t%s\n",n,w,r,b/262144/(t/1e9),b/1048576/(t/1e9),(p==0?"-":sprintf("%.2f",c*1e4/(b/262144))),f}' >>"$OUT"; return;;
  blast-*)  # lean pipelined client (nbdblast.c): shows the server's ceiling where fio/libnbd is the bottleneck
   [ -x $TOOLS/nbdblast ] || return
   local rw qd sk ex line; rw=${3#blast-}; qd=${rw#*-q}; rw=${rw%-q*}; sk=${u#*socket=}; ex=${u#nbd+unix:///}; ex=${ex%%\?*}
   line=$($CP $TOOLS/nbdblast $sk "${ex:-x}" $rw 4096 $qd $SECS 2>"$TMP/fio.err") || { line=$($CP $TOOLS/nbdblast $sk "" $rw 4096 $qd $SECS 2>"$TMP/fio.err") || return; }
   foreign
   echo "$line" | awk -v f=$fr -v n=$1 -v w=$3 -v r=$4 -v c=$((c1-c0)) -v s=$SECS -v p="${PID:-0}" '{printf "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n",n,w,r,$1,$3,$6,$8,(p==0?"-":sprintf("%.2f",c*1e4/($1*s))),f}' >>"$OUT"; return;;
  *) echo "unknown workload $3" >&2; return;;
 esac
 foreign
 python3 - "$TMP/fio.json" "$1" "$3" "$4" $((c1-c0)) "${PID:-0}" $fr >>"$OUT" <<'P'
import json,sys
f,n,w,r,c,pid,fr=sys.argv[1:]
try:
    t=open(f).read(); j=json.loads(t[t.index('{'):])['jobs'][0]
    k='write' if 'write' in w else 'read'; d=j[k]; pc=d['clat_ns'].get('percentile',{})
    # ramp_time ops are not in total_ios, so scale CPU by (runtime+0.2)/runtime
    rt=d['runtime']/1000; ops=d['iops']*(rt+0.2)
    print(n,w,r,'%.1f'%d['iops'],'%.1f'%(d['bw_bytes']/1048576),'%.2f'%(pc.get('50.000000',0)/1e3),'%.2f'%(pc.get('99.000000',0)/1e3),'-' if pid=='0' else '%.2f'%(int(c)*1e4/max(ops,1)),fr,sep='\t')
except Exception as e:
    print(n,w,r,'0','0','0','0','ERR:%s'%e,fr,sep='\t')
P
}
echo -e "server\tworkload\trep\tiops\tMiB/s\tp50_us\tp99_us\tserver_cpu_us_per_op\tforeign_pct" >"$OUT"
for ((r=1;r<=REP;r++)); do for s in "${SERVERS[@]}"; do
  name=${s%%=*}; v=${s#*=}
  if [ "${v:0:1}" = @ ]; then
    export SOCK=$TMP/$name.sock; rm -f "$SOCK"; $SP bash -c "${v:1}" >"$TMP/srv.log" 2>&1 & PID=$!
    for i in $(seq 200); do [ -S "$SOCK" ] && break; sleep 0.05; done; sleep 0.2
    URI="nbd+unix:///?socket=$SOCK"; [[ $name == nbd-server* ]] && URI="nbd+unix:///export?socket=$SOCK"
    [ -s "$IMG.pid" ] && PID=$(cat "$IMG.pid")   # a server that daemonizes leaves its pid here
    [ -S "$SOCK" ] || { echo "$name did not start:" >&2; cat "$TMP/srv.log" >&2; stop; continue; }
  else PID=; URI=$v; fi
  # prefill: every page really allocated before anything is measured
  fio --name=p --ioengine=nbd --uri="$URI" --rw=write --bs=1m --iodepth=8 --size=$SIZE --output=/dev/null >/dev/null 2>&1
  for w in $WLS; do run "$name" "$URI" "$w" $r; done
  stop
done; echo "round $r/$REP done" >&2; done
python3 - "$OUT" <<'P'
import sys,statistics as st,collections
rows=[l.rstrip('\n').split('\t') for l in open(sys.argv[1])][1:]
g=collections.OrderedDict(); wl=[];sv=[]
for n,w,r,i,m,a,b,c,f in rows:
    g.setdefault((n,w),[]).append((float(i),float(m),float(a),float(b),c,int(f)))
    if w not in wl: wl.append(w)
    if n not in sv: sv.append(n)
med=lambda x:st.median(x)
for w in wl:
    print('\n## %s'%w); print('%-26s %10s %10s %9s %9s %9s   %s'%('server','IOPS','MiB/s','p50_us','p99_us','cpu_us/op','IOPS min..max (n/clean)'))
    for n in sv:
        x=g.get((n,w)); 
        if not x: continue
        al=len(x); cl=[y for y in x if y[5]<=25]; x=cl if len(cl)>=3 else x
        cs=[float(y[4]) for y in x if y[4][:1].isdigit()]
        print('%-26s %10.0f %10.0f %9.1f %9.1f %9s   %.0f..%.0f (%d/%d)'%(n,med([y[0] for y in x]),med([y[1] for y in x]),med([y[2] for y in x]),med([y[3] for y in x]),'%.2f'%med(cs) if cs else '-',min(y[0] for y in x),max(y[0] for y in x),al,len(cl)))
P
