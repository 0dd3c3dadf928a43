//! Plans as text: what is printed is read as the same plan.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it is")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use brim_device::fault::{
    Bucket, Delay, ErrorName, Flip, Latency, Limit, Op, Row, Seek, Sizes, Then, Unit, When,
};
use brim_device::{ByteRange, Ratio, Survival};
use brim_scenario::{Scenario, Settings, Unprintable, print};
use brim_trial::condition::{About, Content as Lost, ExtentLimits, Measure, Reading, StepCondition};
use brim_trial::event::{Signal, SpaceKind};
use brim_trial::limits::Change;
use brim_trial::operation::{
    Administration, Compression, Content, DiskWord, Expect, ExtentCount, FallocateMode, Filter, How,
    OpenFlag, Pool, Profile, Release, Rename, Shared, Short, Space, Target, WhenFull, Which,
};
use brim_trial::plan::{Allow, Device, Fault, Filesystem, Fill, Loop, Prepare};
use brim_trial::{
    Bytes, Condition, Errno, Expression, FileOperation, FilesystemKind, Known, Limits, Nanos, Operation,
    Pattern, Phase, Plan, Step, Template, Verdict,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

fn read(text: &str) -> Plan {
    let scenario = Scenario::parse("printed.toml", text);
    let scenario = scenario.unwrap_or_else(|error| panic!("{text}\n{:?}", miette::Report::new(error)));
    let mut plans = scenario.plans(&Settings::default()).unwrap();
    assert_eq!(plans.len(), 1);
    plans.remove(0)
}

fn without_params(plan: &Plan) -> Plan {
    Plan { params: BTreeMap::new(), control: None, changed: None, ..plan.clone() }
}

/// Names with all that TOML has to escape.
fn words() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z][a-z0-9 -]{0,8}[a-z]", "[a-z]['\"\\\\\n\t\u{1}é#=$}{]{0,4}[a-z]"]
        .prop_filter("a parameter's place", |text| !text.contains("${"))
}

fn file() -> impl Strategy<Value = Template> {
    prop_oneof!["[a-z\"' \\\\$]{1,6}(/[a-z.{]{1,4}z)?", Just("dir/f${i}".to_owned())]
        .prop_filter("a plain path", |text| {
            !text.replace("${i}", "").contains("${") && !text.starts_with('/')
        })
        .prop_map(Template::from)
}

fn limits() -> impl Strategy<Value = Limits> {
    (0u64..1 << 40, option::of(0u64..1 << 40))
        .prop_map(|(at_least, more)| Limits { at_least, at_most: more.map(|more| at_least + more) })
}

fn pool() -> impl Strategy<Value = Pool> {
    let space = prop_oneof![sectors().prop_map(Space::Limit), sectors().prop_map(Space::Free)];
    (space, select(vec![WhenFull::Error, WhenFull::Hold]))
        .prop_map(|(space, when_full)| Pool { space, when_full })
}

fn bytes() -> impl Strategy<Value = Bytes> {
    (0u64..1 << 40, 0u32..40).prop_map(|(bytes, shift)| Bytes(bytes >> shift))
}

fn sectors() -> impl Strategy<Value = Bytes> {
    (1u64..1 << 31).prop_map(|sectors| Bytes(sectors * 512))
}

fn nanos() -> impl Strategy<Value = Nanos> {
    (1u64..1000, select(vec![1, 1_000, 1_000_000, 1_000_000_000, 60_000_000_000]))
        .prop_map(|(n, unit)| Nanos(n * unit))
}

fn ratio() -> impl Strategy<Value = Ratio> {
    (1u64..=1_000_000_000).prop_map(Ratio)
}

/// A size that every round has: sums and products, and a difference of what is larger and what is smaller.
fn expression() -> impl Strategy<Value = Expression> {
    let two = |build: fn(Box<Expression>, Box<Expression>) -> Expression| {
        move |left: Expression, right: Expression| build(Box::new(left), Box::new(right))
    };
    let leaf = (0u64..1 << 20).prop_map(|bytes| Expression::Size(Bytes(bytes)));
    leaf.prop_recursive(3, 12, 2, move |inner| {
        let count = prop_oneof![(0u64..4).prop_map(Expression::Count), Just(Expression::Iteration)];
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(move |(one, other)| two(Expression::Add)(one, other)),
            (count.clone(), inner.clone())
                .prop_map(move |(one, other)| two(Expression::Multiply)(one, other)),
            (inner.clone(), count).prop_map(move |(one, other)| two(Expression::Multiply)(one, other)),
            inner.prop_map(move |small| {
                let large = two(Expression::Add)(Expression::Size(Bytes(1 << 50)), small.clone());
                two(Expression::Subtract)(large, small)
            }),
        ]
    })
}

/// What steps may name.
#[derive(Clone, Debug)]
struct Names {
    gates: Vec<String>,
    faults: Vec<String>,
    disks: Vec<String>,
    cache: bool,
    btrfs: bool,
}

/// Operations on a part of a file.
fn file_operation() -> impl Strategy<Value = FileOperation> {
    let range = || (file(), expression(), expression());
    let data = || {
        let words = select(vec![Content::Random, Content::Zeroes, Content::Compressible]);
        prop_oneof![words, "[a-z]{1,5}".prop_map(Content::Text)]
    };
    let expect = || select(vec![Expect::Written, Expect::Synced, Expect::Zeroes]);
    let how = select(vec![(false, false), (true, false), (false, true)]).prop_map(|(dsync, nowait)| How {
        direct: false,
        dsync,
        nowait,
    });
    let shared = || {
        (expression(), expression(), option::of(expression())).prop_map(|(offset, length, to_offset)| {
            Shared { to_offset: to_offset.unwrap_or_else(|| offset.clone()), offset, length }
        })
    };
    prop_oneof![
        (range(), select(FallocateMode::ALL.to_vec()), any::<bool>()).prop_map(
            |((file, offset, length), mode, keep)| FileOperation::Fallocate {
                file,
                offset,
                length,
                mode,
                keep_size: keep && mode.may_keep_size(),
            }
        ),
        (range(), data(), how, select(vec![Short::GoOn, Short::Stop])).prop_map(
            |((file, offset, length), data, how, short)| FileOperation::Pwrite {
                file,
                offset,
                length,
                data,
                how,
                short
            }
        ),
        (range(), expect(), any::<bool>()).prop_map(|((file, offset, length), expect, nowait)| {
            FileOperation::Pread { file, offset, length, expect, how: How { nowait, ..How::default() } }
        }),
        (range(), data()).prop_map(|((file, offset, length), data)| FileOperation::MmapWrite {
            file,
            offset,
            length,
            data
        }),
        (range(), expect()).prop_map(|((file, offset, length), expect)| FileOperation::MmapRead {
            file,
            offset,
            length,
            expect
        }),
        range().prop_map(|(file, offset, length)| FileOperation::Msync { file, offset, length }),
        range().prop_map(|(file, offset, length)| FileOperation::SyncFileRange { file, offset, length }),
        (file(), file(), option::of(shared())).prop_map(|(from, to, range)| FileOperation::Reflink {
            from,
            to,
            range
        }),
        (file(), file(), shared()).prop_map(|(from, to, range)| FileOperation::Dedupe { from, to, range }),
    ]
}

/// Operations on whole files and on names.
fn by_name() -> impl Strategy<Value = FileOperation> {
    let attribute = || "user[.][a-z]{1,5}".prop_map(Template::from);
    let one: Vec<fn(Template) -> FileOperation> = vec![
        |file| FileOperation::Fsync { file },
        |file| FileOperation::Fdatasync { file },
        |file| FileOperation::Close { file },
        |file| FileOperation::Tmpfile { file },
        |file| FileOperation::Creat { file },
        |file| FileOperation::Nocow { file },
        |file| FileOperation::Mkswap { file },
        |file| FileOperation::Swapon { file },
        |file| FileOperation::Swapoff { file },
        |path| FileOperation::Mkdir { path },
        |path| FileOperation::Rmdir { path },
        |file| FileOperation::Unlink { file, keep_open: false },
        |file| FileOperation::Unlink { file, keep_open: true },
        |file| FileOperation::Open { file, flags: Vec::new() },
        |file| FileOperation::Open { file, flags: vec![OpenFlag::Create, OpenFlag::Truncate] },
    ];
    prop_oneof![
        4 => (select(one), file()).prop_map(|(build, file)| build(file)),
        1 => (file(), expression()).prop_map(|(file, size)| FileOperation::Truncate { file, size }),
        1 => (file(), file(), select(vec![Rename::Replace, Rename::Noreplace, Rename::Exchange]))
            .prop_map(|(from, to, how)| FileOperation::Rename { from, to, how }),
        1 => (file(), file()).prop_map(|(from, to)| FileOperation::Link { from, to }),
        1 => (file(), file()).prop_map(|(path, to)| FileOperation::Symlink { path, target: Target::Path(to) }),
        1 => (file(), expression())
            .prop_map(|(path, length)| FileOperation::Symlink { path, target: Target::Length(length) }),
        1 => (file(), attribute(), expression())
            .prop_map(|(file, name, length)| FileOperation::Setxattr { file, name, length }),
        1 => (file(), attribute()).prop_map(|(file, name)| FileOperation::Removexattr { file, name }),
        1 => (file(), 0u32..0o10000).prop_map(|(file, mode)| FileOperation::Chmod { file, mode }),
        1 => (file(), option::of(limits())).prop_map(|(file, limits)| FileOperation::Extents {
            file,
            expect: limits.map(|limits| (ExtentCount::Shared, limits)).into_iter().collect(),
        }),
    ]
}

fn condition(btrfs: bool) -> BoxedStrategy<About> {
    let spaces = || select(vec![SpaceKind::Data, SpaceKind::Metadata, SpaceKind::System]);
    let change = || {
        prop_oneof![
            limits().prop_map(Change::Grew),
            limits().prop_map(Change::Shrank),
            Just(Change::Unchanged)
        ]
    };
    let pattern = || "[a-z .]{1,9}".prop_map(|text| Pattern::new(&text).unwrap());
    let mut all = vec![
        (pattern(), limits()).prop_map(|(pattern, times)| About::KernelLog { pattern, times }).boxed(),
        any::<bool>().prop_map(|read_only| About::Mount { read_only }).boxed(),
        (select(vec!["read", "write", "flush"]), limits(), option::of(limits()), any::<bool>())
            .prop_map(|(op, times, bytes, phase)| About::Requests {
                op: op.to_owned(),
                phase: phase.then_some(0),
                times: Some(times),
                bytes,
            })
            .boxed(),
        pattern().prop_map(|pattern| About::Crash { pattern }).boxed(),
    ];
    if btrfs {
        all.push((spaces(), change()).prop_map(|(space, change)| About::MayUse { space, change }).boxed());
        let errno = option::of(Just(Errno::ENOSPC));
        let tickets = (spaces(), errno, limits());
        all.push(tickets.prop_map(|(space, errno, times)| About::Tickets { space, errno, times }).boxed());
        let is = prop_oneof![
            limits().prop_map(Measure::Is),
            change().prop_map(|by| Measure::Changed { since: Reading::Before, by })
        ];
        let at = select(vec![Reading::Before, Reading::After]);
        let counter =
            (is, at).prop_map(|(is, at)| About::Counter { name: "data.may_use".to_owned(), at, is });
        all.push(counter.boxed());
    }
    let one = prop::strategy::Union::new(all);
    let entry = || (one.clone(), any::<bool>()).prop_map(|(about, not)| Condition { about, not });
    prop_oneof![3 => one.clone(), 1 => vec(entry(), 2..4).prop_map(About::Any)].boxed()
}

fn operation(names: &Names, alone: bool) -> BoxedStrategy<Operation> {
    let Names { gates, faults, disks, cache, btrfs } = names.clone();
    let disk = move || select(disks.clone());
    let mut all = vec![
        file_operation().prop_map(Operation::File).boxed(),
        by_name().prop_map(Operation::File).boxed(),
        (sectors(), option::of(disk()))
            .prop_map(|(size, device)| Operation::ResizeDisk { size: size.into(), device })
            .boxed(),
        file().prop_map(|path| Operation::Subvolume { path }).boxed(),
        (file(), file(), any::<bool>())
            .prop_map(|(of, to, read_only)| Operation::Snapshot { of, to, read_only })
            .boxed(),
        option::of(1u64..9).prop_map(|trial| Operation::Panic { trial }).boxed(),
        select(vec![
            Operation::Syncfs {},
            Operation::Scrub {},
            Operation::DropCaches {},
            Operation::Counters {},
            Operation::Freeze {},
            Operation::Thaw {},
        ])
        .boxed(),
        (vec(file(), 1..3), any::<u8>())
            .prop_map(|(command, exit)| Operation::Exec { command, exit })
            .boxed(),
        ("[a-z]{1,8}", 1u64..9)
            .prop_map(|(text, count)| Operation::AwaitLog { pattern: Pattern::new(&text).unwrap(), count })
            .boxed(),
        "[a-z ]{1,9}".prop_map(|text| Operation::Disk(DiskWord::Mark { text })).boxed(),
        (option::of(disk()), pool())
            .prop_map(|(device, pool)| Operation::Disk(DiskWord::SetPool { device, pool }))
            .boxed(),
    ];
    if alone {
        all.push(Just(Operation::Check {}).boxed());
        let remount =
            option::of(vec(words(), 0..3)).prop_map(|options| Operation::Remount { live: false, options });
        all.push(remount.boxed());
    }
    if alone && cache {
        let odds = || prop_oneof![Just(Ratio::ZERO), (1u64..500_000_000).prop_map(Ratio)];
        let cut = (odds(), odds()).prop_map(|(kept, torn)| Operation::PowerCut {
            survival: Survival { kept, torn },
            arm: Vec::new(),
        });
        all.push(cut.boxed());
    }
    let live =
        vec(words(), 1..3).prop_map(|options| Operation::Remount { live: true, options: Some(options) });
    all.push(live.boxed());
    all.push(Just(Operation::Administer(Administration::Fstrim {})).boxed());
    if btrfs {
        let act = administration(disk().boxed(), alone);
        all.push(act.prop_map(Operation::Administer).boxed());
    }
    if !gates.is_empty() {
        let gate = || select(gates.clone());
        let which = prop_oneof![
            Just(Which::All),
            Just(Which::Reversed),
            (1u64..9).prop_map(Which::First),
            Just(vec![3, 1, 2]).prop_shuffle().prop_map(Which::Only),
        ];
        let some = (which, option::of(select(ErrorName::ALL.to_vec())))
            .prop_map(|(which, error)| Release { which, error });
        all.push((gate(), 1u64..4).prop_map(|(gate, count)| Operation::Await { gate, count }).boxed());
        all.push(
            (gate(), option::of(some)).prop_map(|(gate, some)| Operation::Release { gate, some }).boxed(),
        );
        all.push(gate().prop_map(|gate| Operation::Close { gate }).boxed());
    }
    if !faults.is_empty() {
        all.push(select(faults.clone()).prop_map(|fault| Operation::Arm { fault }).boxed());
    }
    proptest::strategy::Union::new(all).boxed()
}

fn filter(disk: BoxedStrategy<String>) -> impl Strategy<Value = Filter> {
    let profiles = || select(Profile::ALL.map(|(_, profile)| profile).to_vec());
    let device = prop_oneof![disk, Just(Device::MISSING.to_owned())];
    let given = (option::of(0u64..=100), vec(profiles(), 0..3), option::of(device), option::of(1u64..9));
    (given, option::of(profiles()), any::<bool>()).prop_map(
        |((usage, profiles, device, limit), convert, soft)| Filter {
            usage,
            profiles,
            device,
            limit,
            convert,
            soft: soft && convert.is_some(),
        },
    )
}

fn administration(disk: BoxedStrategy<String>, alone: bool) -> BoxedStrategy<Administration> {
    let ways = || select(Compression::ALL.map(|(_, way)| way).to_vec());
    let some = || option::of(filter(disk.clone()));
    let balance = (some(), some(), some(), any::<bool>()).prop_map(|(data, metadata, system, force)| {
        Administration::Balance { force: force || system.is_some(), data, metadata, system }
    });
    let missing = prop_oneof![disk.clone(), Just(Device::MISSING.to_owned())];
    let limits = prop_oneof![
        expression().prop_map(|size| (Some(size), None)),
        (option::of(expression()), expression()).prop_map(|(size, own)| (size, Some(own))),
    ];
    let mut all = vec![
        disk.clone().prop_map(|device| Administration::DeviceAdd { device }).boxed(),
        missing.prop_map(|device| Administration::DeviceRemove { device }).boxed(),
        (disk.clone(), disk.clone())
            .prop_map(|(from, to)| {
                // There may be one disk alone.
                if from == to {
                    Administration::DeviceAdd { device: to }
                } else {
                    Administration::DeviceReplace { from, to }
                }
            })
            .boxed(),
        balance.boxed(),
        (option::of(expression()), option::of(disk.clone()))
            .prop_map(|(size, device)| Administration::ResizeFilesystem { size, device })
            .boxed(),
        (file(), option::of(ways()))
            .prop_map(|(file, compress)| Administration::Defragment { file, compress })
            .boxed(),
        (file(), ways()).prop_map(|(file, with)| Administration::Compress { file, with }).boxed(),
        (prop_oneof![file(), Just(Template::from("."))], limits)
            .prop_map(|(path, (referenced, exclusive))| Administration::QgroupLimit {
                path,
                referenced,
                exclusive,
            })
            .boxed(),
        file().prop_map(|path| Administration::SubvolumeDelete { path }).boxed(),
        select(vec![
            Administration::QuotaEnable {},
            Administration::QuotaRescan {},
            Administration::WaitCleaner {},
            Administration::Fstrim {},
        ])
        .boxed(),
    ];
    if alone {
        let lose = (disk, option::of(vec(words(), 0..3)));
        all.push(lose.prop_map(|(device, options)| Administration::LoseDevice { device, options }).boxed());
    }
    proptest::strategy::Union::new(all).boxed()
}

fn delay() -> impl Strategy<Value = Delay> {
    let latency = prop_oneof![
        nanos().prop_map(Latency::Fixed),
        nanos().prop_map(|max| Latency::Uniform { min: Nanos(max.0 / 2), max }),
        (nanos(), nanos()).prop_map(|(mean, deviation)| Latency::Normal { mean, deviation }),
        nanos().prop_map(|mean| Latency::Exponential { mean }),
        (nanos(), ratio()).prop_map(|(median, sigma)| Latency::Lognormal { median, sigma }),
        (nanos(), ratio()).prop_map(|(min, shape)| Latency::Pareto { min, shape }),
    ];
    (latency, option::of(Just(Nanos(3_000_000_000_000))))
        .prop_map(|(latency, at_most)| Delay { latency, at_most })
}

fn then() -> impl Strategy<Value = Then> {
    let rate =
        (select(vec![Unit::Requests, Unit::Bytes]), 1u64..1 << 40, prop_oneof![Just(0), 1u64..1 << 20]);
    prop_oneof![
        option::of(nanos()).prop_map(|limit| Then::Hold { limit }),
        delay().prop_map(Then::Delay),
        rate.prop_map(|(unit, per_second, burst)| Then::Limit(Limit { unit, per_second, burst })),
        (nanos(), 1u32..20_000, 1u64..1 << 40).prop_map(|(max, rpm, bytes_per_second)| Then::Seek(Seek {
            min: Nanos(max.0 / 2),
            max,
            rpm,
            bytes_per_second
        })),
        select(ErrorName::ALL.to_vec()).prop_map(Then::Error),
        select(vec![Then::Drop, Then::Volatile, Then::Disconnect, Then::Close]),
        option::of(1u64..9).prop_map(|sectors| Then::Torn { sectors }),
        sectors().prop_map(|by| Then::Misdirect { by }),
        (1u32..65, any::<bool>()).prop_map(|(bits, at_rest)| Then::Flip(Flip { bits, at_rest })),
    ]
}

fn when(then: &Then) -> impl Strategy<Value = When> + use<> {
    let acts_on: Vec<Op> = then.acts_on().iter().copied().filter(|op| *op != Op::Flush).collect();
    let sizes = prop_oneof![
        (1u64..9).prop_map(|min| Sizes { min: Some(Bytes(min)), max: None }),
        (1u64..9).prop_map(|max| Sizes { min: Some(Bytes(1)), max: Some(Bytes(max)) }),
    ];
    let range =
        (bytes(), 1u64..1 << 30).prop_map(|(offset, length)| ByteRange { offset, length: Bytes(length) });
    let region = prop_oneof![
        select(vec!["superblock", "data", "metadata", "system"]).prop_map(ToOwned::to_owned),
        file().prop_map(|file| format!("file:{}", file.to_string().replace("${i}", "i"))),
    ];
    let number = || option::of(1u64..u64::MAX);
    let place = (option::of(range), option::of(region), option::of(sizes));
    let picked = (number(), number(), option::of((1u64..9, 9u64..99)), option::of(ratio()), number());
    (subsequence(acts_on.clone(), 0..=acts_on.len()), option::of(any::<bool>()), place, picked).prop_map(
        |(op, fua, (range, region, size), (nth, every, between, probability, times))| When {
            op: op.into_iter().collect(),
            fua,
            range,
            region,
            size,
            while_gate: None,
            nth,
            every,
            between,
            probability,
            times,
        },
    )
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (words(), then()).prop_flat_map(|(name, then)| {
        when(&then).prop_map(move |when| Row { name: name.clone(), when, then: then.clone() })
    });
    vec(row, 0..4).prop_map(|mut rows| {
        for (index, row) in rows.iter_mut().enumerate() {
            row.name.push_str(&index.to_string());
        }
        // Whoever acts while a gate is closed stands behind it.
        if let Some(gate) = rows.iter().position(|row| matches!(row.then, Then::Hold { .. })) {
            let name = rows[gate].name.clone();
            for row in &mut rows[gate + 1..] {
                row.when.while_gate = Some(name.clone());
            }
        }
        rows
    })
}

/// Disks, of which the first is in the filesystem; and on another filesystem than btrfs none but that.
fn devices(kind: FilesystemKind) -> impl Strategy<Value = Vec<Device>> {
    let one = ("[a-z][a-z0-9_-]{0,6}", sectors(), any::<bool>(), any::<bool>());
    (vec(one, 1..4), any::<bool>()).prop_map(move |(given, named)| {
        let several = given.len() > 1;
        let device =
            |(index, (name, size, write_cache, spare)): (usize, (String, Bytes, bool, bool))| Device {
                name: if several || named { format!("{name}{index}") } else { Device::ONLY.to_owned() },
                size,
                write_cache,
                in_filesystem: index == 0 || (!spare && kind == FilesystemKind::Btrfs),
            };
        given.into_iter().enumerate().map(device).collect()
    })
}

/// Each row on a disk; what acts while a gate is closed is on that of the gate.
fn on_disks(rows: Vec<Row>, devices: &[Device]) -> Vec<Fault> {
    let place = |index: usize| devices[index % devices.len()].name.clone();
    let gate = rows.iter().position(|row| matches!(row.then, Then::Hold { .. }));
    let device = |(index, row): (usize, Row)| {
        let waits = row.when.while_gate.is_some();
        Fault { device: place(gate.filter(|_| waits).unwrap_or(index)), row }
    };
    rows.into_iter().enumerate().map(device).collect()
}

/// A step of the preparation: one that every disk can do, in no worker's name.
fn first_steps(names: &Names) -> impl Strategy<Value = Vec<Step>> + use<> {
    let names = Names { gates: Vec::new(), faults: Vec::new(), cache: false, ..names.clone() };
    // There are no rounds to count.
    let counts = |operation: &Operation| {
        let shown = format!("{operation:?}");
        shown.contains("${i}") || shown.contains("Iteration")
    };
    let allowed = move |operation: &Operation| {
        !counts(operation)
            && !matches!(
                operation,
                Operation::Panic { .. }
                    | Operation::Administer(Administration::LoseDevice { .. })
                    | Operation::Disk(_)
                    | Operation::Counters {}
                    | Operation::Freeze {}
                    | Operation::Thaw {}
                    | Operation::AwaitLog { .. }
                    | Operation::File(FileOperation::Swapon { .. } | FileOperation::Swapoff { .. })
            )
    };
    let step = operation(&names, true).prop_filter("not in the preparation", allowed);
    let step = step.prop_map(|operation| Step {
        name: operation.verb().to_owned(),
        operation,
        by: None,
        allow: Vec::new(),
    });
    vec(step, 0..3)
}

fn phase(names: &Names) -> impl Strategy<Value = Phase> + use<> {
    let names = names.clone();
    (words(), option::of(select(vec![Errno::ENOSPC, Errno::EIO])), 1u64..9, any::<bool>()).prop_flat_map(
        move |(name, until, times, alone)| {
            let ways = vec![Allow::Any, Allow::Errno(Errno::ENOSPC), Allow::Signal(Signal::Bus)];
            let step = (operation(&names, alone), option::of(words()), words(), subsequence(ways, 0..3));
            (vec(step, 1..5), Just(name), Just((until, times, alone))).prop_map(
                |(steps, name, (until, times, alone))| {
                    let steps: Vec<Step> = steps
                        .into_iter()
                        .map(|(operation, name, by, allow)| Step {
                            name: name.unwrap_or_else(|| operation.verb().to_owned()),
                            operation,
                            by: (!alone).then_some(by),
                            allow,
                        })
                        .collect();
                    let phase = Phase { name, until, times, steps, loops: Vec::new() };
                    // Several workers go round once.
                    let times = if phase.workers().len() > 1 { 1 } else { times };
                    // The first goes round by itself, in two copies.
                    let own = phase.workers().first().copied().flatten().map(|by| Loop {
                        by: by.to_owned(),
                        times: 3,
                        until: Some(Errno::EIO),
                        beside: None,
                        copies: 2,
                    });
                    let takes_all = phase.steps.iter().any(|step| step.operation.takes_the_mount());
                    let loops = own.filter(|_| !takes_all).into_iter().collect();
                    Phase { times, loops, ..phase }
                },
            )
        },
    )
}

const POOL: Pool = Pool { space: Space::Free(Bytes(4096)), when_full: WhenFull::Hold };

fn plans() -> impl Strategy<Value = Plan> {
    select(FilesystemKind::ALL.to_vec())
        .prop_flat_map(|kind| (Just(kind), devices(kind), rows()))
        .prop_flat_map(|(kind, devices, rows)| {
            let faults = on_disks(rows, &devices);
            let called = |which: fn(&&Fault) -> bool| {
                faults.iter().filter(which).map(|fault| fault.row.name.clone()).collect::<Vec<_>>()
            };
            let names = Names {
                gates: called(|fault| matches!(fault.row.then, Then::Hold { .. })),
                faults: called(|_| true),
                disks: devices.iter().map(|device| device.name.clone()).collect(),
                cache: devices.iter().any(|device| device.write_cache),
                btrfs: kind == FilesystemKind::Btrfs,
            };
            let phases = vec(phase(&names), 1..4);
            let head = (words(), words(), words(), nanos());
            let metadata = option::of((1u64..1 << 20).prop_map(|nodes| Bytes(nodes * 16384)));
            let fill = (option::of(1u64..1 << 20), metadata, first_steps(&names));
            let options = (vec(words(), 0..3), vec(words(), 0..3));
            let of_step = (
                any::<prop::sample::Index>(),
                option::of(select(vec![Errno::ENOSPC, Errno(117)])),
                option::of(select(vec![SpaceKind::Data, SpaceKind::Metadata, SpaceKind::System])),
                any::<bool>(),
                (option::of(limits()), option::of(limits())),
            );
            let condition = (of_step, option::of(condition(names.btrfs)), any::<bool>());
            let kernels = select(vec!["*", ">=6.13", ">=5.15, <6.1", "=6.12.40"]);
            let verdict = select(vec![Verdict::Reproduced, Verdict::NotReproduced, Verdict::Inconclusive]);
            let rest = (options, vec(condition, 1..3), vec((kernels, verdict), 0..3));
            (Just((kind, devices, faults)), phases, head, fill, rest)
        })
        .prop_map(|((kind, devices, faults), phases, head, fill, rest)| {
            let (scenario, claim, source, step_limit) = head;
            let ((mkfs, mount), conditions, known) = rest;
            let (data_free, metadata_free, steps) = fill;
            let names: Vec<String> =
                phases.iter().flat_map(|phase| &phase.steps).map(|step| step.name.clone()).collect();
            let of_step = |(step, errno, space, lost, (short, shared)): (
                prop::sample::Index,
                _,
                Option<SpaceKind>,
                bool,
                (_, Option<Limits>),
            )| StepCondition {
                errno,
                space: space.filter(|_| kind == FilesystemKind::Btrfs),
                content: lost.then_some(Lost::Lost),
                short,
                extents: shared
                    .map(|shared| ExtentLimits { shared: Some(shared), ..ExtentLimits::default() }),
                ..StepCondition::fails(step.get::<String>(&names))
            };
            let condition = |(step, other, not): (_, Option<About>, _)| Condition {
                about: other.unwrap_or_else(|| About::Step(of_step(step))),
                not,
            };
            let metadata_free = metadata_free.filter(|_| kind == FilesystemKind::Btrfs);
            Plan {
                scenario,
                claim,
                why: Some(source.clone()),
                source,
                control: None,
                changed: None,
                pools: devices
                    .first()
                    .filter(|_| faults.is_empty())
                    .map(|device| (device.name.clone(), POOL))
                    .into_iter()
                    .collect(),
                params: BTreeMap::from([("free".to_owned(), "66 blocks".to_owned())]),
                devices,
                faults,
                filesystem: Filesystem { kind, mkfs, mount },
                prepare: Prepare {
                    steps,
                    fill: Fill { data_free: data_free.map(|blocks| Bytes(blocks * 4096)), metadata_free },
                },
                reproduced: conditions.into_iter().map(condition).collect(),
                phases,
                known: known
                    .into_iter()
                    .map(|(kernel, verdict)| Known { kernel: kernel.parse().unwrap(), verdict, rate: None })
                    .collect(),
                step_limit,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// For all plans: what is printed is read as the same plan, whatever the comment.
    #[test]
    fn what_is_printed_is_read_as_the_same_plan(plan in plans(), comment in "[a-z\n\"\r\u{1}\u{7f}é]{0,20}") {
        let text = print(&plan, &comment).unwrap_or_else(|error| panic!("{error:?}\n{plan:#?}"));
        prop_assert_eq!(read(&text), without_params(&plan));
        // And once more: nothing of it depends on where the plan came from.
        prop_assert_eq!(print(&read(&text), &comment).unwrap(), text);
    }
}

#[test]
fn every_scenario_of_the_catalogue_prints_on_every_filesystem() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios/btrfs");
    let mut count = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let scenario = Scenario::parse(&path.display().to_string(), &text).unwrap();
        for kind in FilesystemKind::ALL {
            let settings = Settings { filesystem: Some(kind), ..Settings::default() };
            // Some are about btrfs alone.
            let plans = scenario.plans(&settings);
            assert!(plans.is_ok() || kind != scenario.default_filesystem(), "{}", path.display());
            for plan in plans.into_iter().flatten() {
                let printed = print(&plan, "");
                // Conditions on counters of btrfs have no words where the filesystem is another.
                if kind != scenario.default_filesystem() && matches!(printed, Err(Unprintable::Refused(_))) {
                    continue;
                }
                let text = printed.unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
                assert_eq!(read(&text), without_params(&plan), "{text}");
                count += 1;
            }
        }
    }
    assert!(count >= 84, "{count}");
}

#[test]
fn a_printed_scenario_looks_like_one_that_somebody_wrote() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios/btrfs/fallocate-then-pwrite.toml");
    let scenario = Scenario::parse("a.toml", &fs::read_to_string(path).unwrap()).unwrap();
    let plan = scenario.plans(&Settings::default()).unwrap().remove(0);
    let text = print(&plan, "free = 66 blocks\nseed 0x1").unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/printed.toml");
    if std::env::var_os("BRIM_BLESS").is_some() {
        fs::write(&golden, &text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(golden).unwrap());
}

#[test]
fn what_has_no_words_is_not_printed() {
    let plan = {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios/btrfs/fallocate-then-pwrite.toml");
        let scenario = Scenario::parse("a.toml", &fs::read_to_string(path).unwrap()).unwrap();
        scenario.plans(&Settings::default()).unwrap().remove(0)
    };
    let refused = |change: fn(&mut Plan)| {
        let mut plan = plan.clone();
        change(&mut plan);
        print(&plan, "").unwrap_err()
    };
    let histogram = refused(|plan| {
        let latency = Latency::Histogram(vec![Bucket { latency: Nanos(1), count: 1 }]);
        let then = Then::Delay(latency.into());
        let device = plan.devices[0].name.clone();
        let row = Row { name: "slow".to_owned(), when: When::default(), then };
        plan.faults.push(Fault { device, row });
    });
    assert!(matches!(histogram, Unprintable::NoWords { .. }), "{histogram:?}");
    let nothing = refused(|plan| plan.phases.clear());
    assert!(matches!(nothing, Unprintable::Refused(_)), "{nothing:?}");
    let parameter = refused(|plan| plan.filesystem.mount.push("${i}".to_owned()));
    assert!(matches!(parameter, Unprintable::Refused(_)), "{parameter:?}");
}
