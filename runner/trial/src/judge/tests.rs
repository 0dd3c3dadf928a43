//! Verdicts from events made by hand.

use std::collections::BTreeMap;

use super::*;
use crate::condition::{Content, ExtentLimits, Measure, Outcome, Reading};
use crate::errno::Errno;
use crate::event::{
    Crash, Extents, Found, KERNEL_LOG, KernelLogLine, Lost, MAY_USE, MayUse, Prepared, Problem, RequestCount,
    Said, Signal, SpaceKind, Stuck, TICKETS, Ticket,
};
use crate::filesystem::FilesystemKind;
use crate::limits::{Change, Limits};
use crate::operation::Operation;
use crate::pattern::Pattern;
use crate::plan::{Device, Filesystem, Fill, Phase, Prepare, Step};
use crate::rate::Rate;
use brim_device::Nanos;

fn plan() -> Plan {
    let step = |name: &str| Step {
        name: name.to_owned(),
        operation: Operation::Syncfs {},
        by: None,
        allow: Vec::new(),
    };
    let until = Some(Errno::ENOSPC);
    let steps = vec![step("fallocate"), step("pwrite")];
    Plan {
        scenario: "test".to_owned(),
        claim: String::new(),
        source: String::new(),
        why: None,
        control: None,
        changed: None,
        params: BTreeMap::new(),
        devices: vec![Device {
            name: Device::ONLY.to_owned(),
            size: Bytes(1 << 27),
            write_cache: false,
            in_filesystem: true,
        }],
        faults: Vec::new(),
        pools: BTreeMap::new(),
        filesystem: Filesystem { kind: FilesystemKind::Btrfs, mkfs: Vec::new(), mount: Vec::new() },
        prepare: Prepare {
            steps: Vec::new(),
            fill: Fill { data_free: Some(Bytes(66 * 4096)), metadata_free: None },
        },
        phases: vec![Phase { name: "test".to_owned(), until, times: 100, steps, loops: Vec::new() }],
        reproduced: vec![
            StepCondition {
                errno: Some(Errno::ENOSPC),
                space: Some(SpaceKind::Data),
                ..StepCondition::fails("pwrite")
            }
            .into(),
        ],
        known: Vec::new(),
        step_limit: Nanos(1),
    }
}

fn prepared(blocks: u64) -> Event {
    let counters = Counters { data_free: Bytes(blocks * 4096), values: BTreeMap::new() };
    Event::Prepared(Prepared {
        data_free_wanted: Some(Bytes(66 * 4096)),
        metadata_free_wanted: None,
        counters,
        failed: None,
        seconds: 0.0,
    })
}

fn failed(step: &str, errno: Errno, space: Option<SpaceKind>) -> Event {
    Event::Step(Box::new(StepEvent {
        trial: 1,
        phase: 0,
        index: 1,
        step: step.to_owned(),
        iteration: 1,
        syscall: String::new(),
        file: None,
        range: None,
        returned: None,
        errno: Some(errno),
        short: None,
        space,
        space_counted: false,
        nanos: Nanos(1),
        at: None,
        by: None,
        held: None,
        problem: None,
        region: None,
        copy: None,
        signal: None,
        allowed: false,
        reported: BTreeMap::new(),
        extents: None,
    }))
}

fn ended() -> Event {
    let (allowed, timing) = (Vec::new(), Vec::new());
    Event::Phase { trial: 1, phase: 0, completed: vec![2, 1], allowed, timing }
}

fn verdict(events: &[Event]) -> (Verdict, Option<String>) {
    let judged = trial(&plan(), 1, events);
    (judged.verdict, judged.reason)
}

#[test]
fn all_conditions_have_to_hold() {
    let data = Some(SpaceKind::Data);
    let reproduced = |step, space| verdict(&[prepared(66), failed(step, Errno::ENOSPC, space), ended()]).0;
    assert_eq!(reproduced("pwrite", data), Verdict::Reproduced);
    assert_eq!(reproduced("fallocate", data), Verdict::NotReproduced);
    assert_eq!(reproduced("pwrite", Some(SpaceKind::Metadata)), Verdict::NotReproduced);
    assert_eq!(reproduced("pwrite", None), Verdict::NotReproduced);
}

/// The first phase goes round until ENOSPC, as foreseen; what the second does is what counts.
#[test]
fn a_condition_may_speak_of_a_later_phase() {
    let mut plan = plan();
    plan.reproduced = vec![
        StepCondition {
            errno: Some(Errno::ENOSPC),
            space: Some(SpaceKind::Data),
            ..StepCondition::fails("fsync")
        }
        .into(),
    ];
    let first = failed("fallocate", Errno::ENOSPC, None);
    let second = failed("fsync", Errno::ENOSPC, Some(SpaceKind::Data));
    let judged = trial(&plan, 1, &[prepared(66), first, ended(), second, ended()]);
    assert_eq!(judged.verdict, Verdict::Reproduced);
    assert_eq!(judged.failed_step.as_deref(), Some("fsync"));
}

#[test]
fn content_is_lost_only_where_a_read_says_so() {
    let mut plan = plan();
    plan.reproduced =
        vec![StepCondition { content: Some(Content::Lost), ..StepCondition::fails("pread") }.into()];
    let judged = |errno: Option<Errno>, problem: Option<Problem>| {
        let Event::Step(step) = failed("pread", Errno::EIO, None) else { unreachable!() };
        let event = Event::Step(Box::new(StepEvent { errno, problem, ..*step }));
        trial(&plan, 1, &[prepared(66), event, ended()])
    };
    let lost = Lost { first: Bytes(0), bytes: Bytes(1), found: Found::Zeroes };
    assert_eq!(judged(None, Some(Problem::Lost(lost))).verdict, Verdict::Reproduced);
    assert_eq!(judged(None, None).verdict, Verdict::NotReproduced);
    let reason = judged(Some(Errno::EIO), None).reason.unwrap();
    assert_eq!(reason, "pread failed with EIO, which no phase foresees");
    let said = Said { exit: 1, lines: Vec::new() };
    let reason = judged(None, Some(Problem::Unclean(said))).reason.unwrap();
    assert_eq!(reason, "pread found mistakes, which no phase foresees");
}

#[test]
fn no_verdict_without_the_state_that_was_asked_for() {
    let events = [prepared(65), failed("pwrite", Errno::ENOSPC, Some(SpaceKind::Data)), ended()];
    let (verdict, reason) = verdict(&events);
    assert_eq!(verdict, Verdict::Inconclusive);
    assert_eq!(reason.unwrap(), "data_free is 65 blocks, 1 block less than asked for");
}

#[test]
fn no_verdict_from_an_error_that_nothing_foresees() {
    let (verdict, reason) = verdict(&[prepared(66), failed("fallocate", Errno::EIO, None), ended()]);
    assert_eq!(verdict, Verdict::Inconclusive);
    assert_eq!(reason.unwrap(), "fallocate failed with EIO, which no phase foresees");
}

#[test]
fn no_verdict_where_the_tickets_could_not_be_seen() {
    let missing = || Event::Missing { evidence: TICKETS.to_owned(), why: "no tracefs".to_owned() };
    let open = [prepared(66), missing(), failed("pwrite", Errno::ENOSPC, None), ended()];
    let reason = "whether data was refused under pwrite could not be seen (no tracefs)";
    assert_eq!(verdict(&open), (Verdict::Inconclusive, Some(reason.to_owned())));
    let settled = [prepared(66), missing(), failed("fallocate", Errno::ENOSPC, None), ended()];
    assert_eq!(verdict(&settled), (Verdict::NotReproduced, None));
}

#[test]
fn no_verdict_from_a_step_that_did_not_end() {
    let (what, limit) = ("pwrite".to_owned(), Nanos(1));
    let stuck = Event::Stuck(Stuck { trial: 1, what, limit, held: Vec::new(), waiting_in: None });
    let failed = failed("pwrite", Errno::ENOSPC, Some(SpaceKind::Data));
    assert_eq!(verdict(&[prepared(66), stuck, failed, ended()]).0, Verdict::Inconclusive);
}

#[test]
fn no_verdict_from_a_trial_that_did_nothing() {
    assert_eq!(verdict(&[prepared(66)]).1.unwrap(), "no phase ended");
}

#[test]
fn one_reproduction_is_enough_and_one_doubt_too() {
    let trial = |verdict| TrialVerdict {
        trial: 1,
        verdict,
        failed_step: None,
        errno: None,
        space: None,
        reason: None,
        findings: Vec::new(),
    };
    let (yes, no, open) = (Verdict::Reproduced, Verdict::NotReproduced, Verdict::Inconclusive);
    assert_eq!(together(&[trial(no), trial(yes), trial(open)]), yes);
    assert_eq!(together(&[trial(no), trial(open)]), open);
    assert_eq!(together(&[trial(no), trial(no)]), no);
    assert_eq!(together(&[]), open);
}

/// What one condition comes to in these events, which the state and a phase that ended surround.
fn finding(about: About, seen: &[Event]) -> Option<bool> {
    let mut plan = plan();
    plan.reproduced = vec![Condition { about, not: false }];
    let mut events = vec![prepared(66)];
    events.extend_from_slice(seen);
    events.push(ended());
    let holds = |plan: &Plan| trial(plan, 1, &events).findings[0].holds;
    let found = holds(&plan);
    plan.reproduced[0].not = true;
    assert_eq!(holds(&plan), found.map(|holds| !holds), "the contrary of {}", plan.reproduced[0]);
    found
}

fn step_about(condition: StepCondition) -> About {
    About::Step(condition)
}

fn missing(evidence: &str) -> Event {
    Event::Missing { evidence: evidence.to_owned(), why: "not here".to_owned() }
}

fn with_step(change: impl FnOnce(&mut StepEvent)) -> Event {
    let Event::Step(mut step) = failed("pwrite", Errno::ENOSPC, None) else { unreachable!() };
    change(&mut step);
    Event::Step(step)
}

#[test]
fn a_short_write_is_told_by_its_bytes() {
    let short = |limits| step_about(StepCondition { short: Some(limits), ..StepCondition::fails("pwrite") });
    let event = [with_step(|step| step.short = Some(Bytes(16384)))];
    assert_eq!(finding(short(Limits::exactly(16384)), &event), Some(true));
    assert_eq!(finding(short(Limits::exactly(16383)), &event), Some(false));
    assert_eq!(finding(short(Limits::SOME), &event), Some(true));
    assert_eq!(finding(short(Limits::SOME), &[failed("pwrite", Errno::ENOSPC, None)]), Some(false));
}

#[test]
fn a_signal_is_a_failure_of_its_own() {
    let by = |signal| step_about(StepCondition { signal: Some(signal), ..StepCondition::fails("pwrite") });
    let event = [with_step(|step| {
        step.errno = None;
        step.signal = Some(Signal::Bus);
    })];
    assert_eq!(finding(by(Signal::Bus), &event), Some(true));
    assert_eq!(finding(by(Signal::Bus), &[failed("pwrite", Errno::EIO, None)]), Some(false));
    assert_eq!(verdict(&[prepared(66), event[0].clone(), ended()]).0, Verdict::Inconclusive);
}

/// Of the failures that a step may have the journal has the first of each copy of its worker, and the phase has how many.
#[test]
fn what_is_allowed_is_foreseen_and_counted_by_its_phase() {
    let fails = |errno, times| {
        step_about(StepCondition { errno: Some(errno), times, ..StepCondition::fails("fallocate") })
    };
    let event = |errno| {
        with_step(|step| {
            step.step = "fallocate".to_owned();
            step.index = 0;
            (step.errno, step.space, step.allowed) = (Some(errno), None, true);
        })
    };
    let counts = [("ENOSPC", 5), ("EIO", 1)].map(|(how, count)| (how.to_owned(), count)).into();
    let (allowed, timing) = (vec![counts, BTreeMap::new()], Vec::new());
    let ended = Event::Phase { trial: 1, phase: 0, completed: vec![2, 1], allowed, timing };
    let events = [event(Errno::ENOSPC), event(Errno::ENOSPC), event(Errno::EIO), ended];
    assert_eq!(finding(fails(Errno::ENOSPC, Limits::exactly(5)), &events), Some(true));
    assert_eq!(finding(fails(Errno::EIO, Limits::exactly(1)), &events), Some(true));
    assert_eq!(finding(fails(Errno::EIO, Limits::exactly(2)), &events), Some(false));
    let all = [&[prepared(66)], events.as_slice()].concat();
    assert_eq!(verdict(&all), (Verdict::NotReproduced, None));
}

/// `ended()` says that the first step ended well twice and the second once.
#[test]
fn a_step_that_ends_well_is_counted_by_its_phase() {
    let ok = |step: &str, times| {
        step_about(StepCondition { outcome: Outcome::Ok, times, ..StepCondition::fails(step) })
    };
    assert_eq!(finding(ok("fallocate", Limits::exactly(2)), &[]), Some(true));
    assert_eq!(finding(ok("pwrite", Limits::exactly(2)), &[]), Some(false));
    assert_eq!(finding(ok("fsync", Limits::SOME), &[]), Some(false));
}

#[test]
fn failures_are_counted() {
    let twice = step_about(StepCondition { times: Limits::exactly(2), ..StepCondition::fails("pwrite") });
    let once = || failed("pwrite", Errno::ENOSPC, None);
    assert_eq!(finding(twice.clone(), &[once()]), Some(false));
    assert_eq!(finding(twice, &[once(), once()]), Some(true));
}

#[test]
fn extents_are_those_of_the_step_that_looked() {
    let extents =
        ExtentLimits { count: Some(Limits::exactly(3)), shared: None, unwritten: Some(Limits::SOME) };
    let about = step_about(StepCondition {
        outcome: Outcome::Ok,
        extents: Some(extents),
        ..StepCondition::fails("pwrite")
    });
    let event = |unwritten| {
        [with_step(|step| {
            step.errno = None;
            step.extents = Some(Extents { count: 3, unwritten, ..Extents::default() });
        })]
    };
    assert_eq!(finding(about.clone(), &event(1)), Some(true));
    assert_eq!(finding(about.clone(), &event(0)), Some(false));
    assert_eq!(finding(about, &[]), Some(false));
}

#[test]
fn a_counter_is_compared_between_the_readings_named() {
    let reading = |when, step: Option<&str>, used: u64| Event::Counters {
        trial: 1,
        when,
        step: step.map(ToOwned::to_owned),
        counters: Counters {
            data_free: Bytes(66 * 4096),
            values: [("data.used".to_owned(), Bytes(used))].into(),
        },
    };
    let events = [
        reading(When::Before, None, 100),
        reading(When::Step, Some("full"), 50),
        reading(When::Step, Some("full"), 300),
        reading(When::After, None, 200),
    ];
    let about = |at, is| About::Counter { name: "data.used".to_owned(), at, is };
    let full = || Reading::Step("full".to_owned());
    let changed = |since, by| Measure::Changed { since, by };
    let grew = |by| Change::Grew(Limits::exactly(by));
    assert_eq!(finding(about(full(), Measure::Is(Limits::exactly(300))), &events), Some(true));
    assert_eq!(finding(about(Reading::After, changed(Reading::Before, grew(100))), &events), Some(true));
    assert_eq!(finding(about(Reading::After, changed(full(), grew(100))), &events), Some(false));
    let shrank = Change::Shrank(Limits { at_least: 100, at_most: None });
    assert_eq!(finding(about(Reading::After, changed(full(), shrank)), &events), Some(true));
    assert_eq!(finding(about(full(), changed(full(), Change::Unchanged)), &events), Some(true));
    // What was not read, or is not there, says nothing.
    assert_eq!(finding(about(full(), Measure::Is(Limits::exactly(0))), &[]), None);
    let other = About::Counter {
        name: "mixed.used".to_owned(),
        at: Reading::After,
        is: Measure::Is(Limits::exactly(0)),
    };
    assert_eq!(finding(other, &events), None);
}

#[test]
fn the_sum_of_may_use_is_nothing_where_not_all_was_seen() {
    let about = |change| About::MayUse { space: SpaceKind::Data, change };
    let below_zero = || about(Change::Shrank(Limits::SOME));
    let event = Event::MayUse(MayUse {
        trial: 1,
        space: SpaceKind::Data,
        added: Bytes(4096),
        taken: Bytes(8192),
        updates: 3,
    });
    assert_eq!(finding(below_zero(), std::slice::from_ref(&event)), Some(true));
    assert_eq!(finding(about(Change::Unchanged), std::slice::from_ref(&event)), Some(false));
    assert_eq!(finding(below_zero(), &[]), None);
    assert_eq!(finding(below_zero(), &[event, missing(MAY_USE)]), None);
}

#[test]
fn what_was_seen_of_tickets_may_settle_it() {
    let about = |at_least, at_most| About::Tickets {
        space: SpaceKind::Data,
        errno: Some(Errno::ENOSPC),
        times: Limits { at_least, at_most },
    };
    let ticket = |errno| {
        Event::Ticket(Ticket { trial: 1, space: SpaceKind::Data, bytes: Bytes(4096), errno, count: 3 })
    };
    let seen = [ticket(Errno::ENOSPC), ticket(Errno::EIO)];
    assert_eq!(finding(about(1, None), &seen), Some(true));
    assert_eq!(finding(about(4, None), &seen), Some(false));
    assert_eq!(finding(about(1, None), &[]), Some(false));
    let in_part = [ticket(Errno::ENOSPC), missing(TICKETS)];
    assert_eq!(finding(about(1, None), &in_part), Some(true));
    assert_eq!(finding(about(4, None), &in_part), None);
    assert_eq!(finding(about(0, Some(2)), &in_part), Some(false));
    assert_eq!(finding(about(0, Some(0)), &[missing(TICKETS)]), None);
}

/// Only btrfs has such tickets: that there are none elsewhere says nothing.
#[test]
fn ext4_has_no_tickets_to_judge_by() {
    let mut plan = plan();
    plan.filesystem.kind = FilesystemKind::Ext4;
    plan.reproduced = vec![Condition {
        about: About::Tickets { space: SpaceKind::Data, errno: None, times: Limits::SOME },
        not: true,
    }];
    assert_eq!(trial(&plan, 1, &[prepared(66), ended()]).verdict, Verdict::Inconclusive);
}

#[test]
fn the_kernel_log_is_matched_line_by_line() {
    let about = |times| About::KernelLog { pattern: Pattern::new(r"aborted \(error -28\)").unwrap(), times };
    let line = |text: &str| Event::KernelLog(KernelLogLine { trial: 1, level: 2, text: text.to_owned() });
    let seen = [line("BTRFS: Transaction aborted (error -28)"), line("BTRFS info: forced readonly")];
    assert_eq!(finding(about(Limits::SOME), &seen), Some(true));
    assert_eq!(finding(about(Limits::exactly(2)), &seen), Some(false));
    assert_eq!(finding(about(Limits::SOME), &[]), Some(false));
    assert_eq!(finding(about(Limits::SOME), &[missing(KERNEL_LOG)]), None);
}

#[test]
fn the_mount_the_requests_and_the_faults_are_as_they_were_seen() {
    let mount = |read_only| Event::Mount { trial: 1, read_only };
    assert_eq!(finding(About::Mount { read_only: true }, &[mount(true)]), Some(true));
    assert_eq!(finding(About::Mount { read_only: true }, &[mount(false)]), Some(false));
    assert_eq!(finding(About::Mount { read_only: true }, &[]), None);

    let asked = |phase, requests| Event::Requests {
        device: None,
        trial: 1,
        phase,
        requests: [("flush".to_owned(), RequestCount { requests, bytes: Bytes(0) })].into(),
    };
    let about = |phase, op: &str| About::Requests {
        op: op.to_owned(),
        phase,
        times: Some(Limits { at_least: 100, at_most: None }),
        bytes: None,
    };
    let events = [asked(Some(0), 3), asked(None, 126)];
    assert_eq!(finding(about(None, "flush"), &events), Some(true));
    assert_eq!(finding(about(Some(0), "flush"), &events), Some(false));
    assert_eq!(finding(about(Some(1), "flush"), &events), None);
    assert_eq!(finding(about(None, "write"), &events), Some(false));

    let fired = Event::Fault {
        device: None,
        trial: 1,
        row: "scrub".to_owned(),
        matches: 3,
        firings: 2,
        overdue: false,
        lateness: None,
    };
    let fault = |row: &str| About::Fault { row: row.to_owned(), times: Limits::exactly(2) };
    assert_eq!(finding(fault("scrub"), std::slice::from_ref(&fired)), Some(true));
    assert_eq!(finding(fault("other"), &[fired]), Some(false));
}

#[test]
fn a_crash_is_a_reproduction_only_where_a_condition_speaks_of_it() {
    let how = "Kernel panic - not syncing: Fatal exception".to_owned();
    let last_words = vec!["kernel BUG at fs/btrfs/inode.c:7!".to_owned(), how.clone()];
    let events = [prepared(66), Event::Crash(Crash { trial: 1, how, last_words })];
    let judged = |pattern: &str| {
        let mut plan = plan();
        let pattern = Pattern::new(pattern).unwrap();
        plan.reproduced = vec![Condition { about: About::Crash { pattern }, not: false }];
        trial(&plan, 1, &events).verdict
    };
    assert_eq!(judged("kernel BUG at fs/btrfs"), Verdict::Reproduced);
    assert_eq!(judged("not syncing"), Verdict::Reproduced);
    assert_eq!(judged("Out of memory"), Verdict::Inconclusive);
    assert_eq!(verdict(&events).0, Verdict::Inconclusive);
}

#[test]
fn one_of_several_is_enough() {
    let fails = |step: &str| Condition::from(StepCondition::fails(step));
    let any = || About::Any(vec![fails("fallocate"), fails("pwrite")]);
    let event = |step: &str| [failed(step, Errno::ENOSPC, None)];
    assert_eq!(finding(any(), &event("pwrite")), Some(true));
    assert_eq!(finding(any(), &event("fallocate")), Some(true));
    assert_eq!(finding(any(), &[]), Some(false));
    // A way to fail that only an alternative names is foreseen, too.
    let mut plan = plan();
    plan.reproduced = vec![Condition { about: any(), not: false }];
    let judged = trial(&plan, 1, &[prepared(66), failed("pwrite", Errno::EIO, None), ended()]);
    assert_eq!(judged.verdict, Verdict::Reproduced);
}

/// What could not be seen counts only where nothing that was seen settles it.
#[test]
fn a_condition_that_does_not_hold_settles_what_another_leaves_open() {
    let mut plan = plan();
    let log = About::KernelLog { pattern: Pattern::new("x").unwrap(), times: Limits::SOME };
    plan.reproduced.push(Condition { about: log, not: false });
    let data = Some(SpaceKind::Data);
    let judged = |step: &str| {
        trial(&plan, 1, &[prepared(66), missing(KERNEL_LOG), failed(step, Errno::ENOSPC, data), ended()])
    };
    assert_eq!(judged("fallocate").verdict, Verdict::NotReproduced);
    let open = judged("pwrite");
    assert_eq!(open.verdict, Verdict::Inconclusive);
    let reason = "the kernel log has no new line like `x`, as far as could be seen (not here)";
    assert_eq!(open.reason.unwrap(), reason);
}

#[test]
fn what_is_expected_is_every_trial_or_a_share_of_them() {
    let trials = |reproduced: usize, not: usize, open: usize| {
        let verdicts =
            [(Verdict::Reproduced, reproduced), (Verdict::NotReproduced, not), (Verdict::Inconclusive, open)];
        let all = verdicts.into_iter().flat_map(|(verdict, count)| std::iter::repeat_n(verdict, count));
        let judged = |verdict| TrialVerdict {
            trial: 1,
            verdict,
            failed_step: None,
            errno: None,
            space: None,
            reason: None,
            findings: Vec::new(),
        };
        all.map(judged).collect::<Vec<_>>()
    };
    let known = |rate| Known { kernel: semver::VersionReq::STAR, verdict: Verdict::Reproduced, rate };
    let always = known(None);
    assert!(as_expected(Some(&always), &trials(20, 0, 0)));
    assert!(!as_expected(Some(&always), &trials(19, 1, 0)) && !as_expected(Some(&always), &[]));
    let (at_least, at_most) = (brim_device::Ratio(20_000_000), brim_device::Ratio(100_000_000));
    let seldom = known(Some(Rate { at_least, at_most, why: String::new() }));
    assert!(as_expected(Some(&seldom), &trials(6, 194, 0)) && as_expected(Some(&seldom), &trials(0, 20, 0)));
    assert!(
        !as_expected(Some(&seldom), &trials(20, 0, 0)) && !as_expected(Some(&seldom), &trials(6, 193, 1))
    );
    assert!(as_expected(None, &trials(1, 19, 0)) && !as_expected(None, &trials(0, 19, 1)));
}

#[test]
fn a_level_of_metadata_is_part_of_the_state() {
    let mut plan = plan();
    plan.prepare.fill = Fill { data_free: None, metadata_free: Some(Bytes(40 * 4096)) };
    let reason = |values: &[(&str, u64)]| {
        let values = values.iter().map(|(name, blocks)| ((*name).to_owned(), Bytes(blocks * 4096)));
        let counters = Counters { data_free: Bytes(0), values: values.collect() };
        let Event::Prepared(prepared) = prepared(66) else { unreachable!() };
        unreached(&plan, &[Event::Prepared(Prepared { counters, ..prepared })])
    };
    let total = ("metadata.total", 100);
    let taken = |blocks: u64| {
        [total, ("metadata.used", blocks - 8), ("metadata.may_use", 5), ("metadata.readonly", 3)]
    };
    assert_eq!(reason(&taken(60)), None);
    let said = "metadata_free is 44 blocks, 4 blocks more than asked for";
    assert_eq!(reason(&taken(56)).as_deref(), Some(said));
    assert_eq!(reason(&[]).as_deref(), Some("the filesystem does not tell its metadata_free"));
}

#[test]
fn no_verdict_from_a_preparation_that_failed() {
    let Event::Step(step) = failed("balance", Errno::ENOSPC, None) else { unreachable!() };
    let Event::Prepared(prepared) = prepared(66) else { unreachable!() };
    let events = [Event::Prepared(Prepared { failed: Some(step), ..prepared }), ended()];
    let reason = "in the preparation, balance failed with ENOSPC".to_owned();
    assert_eq!(verdict(&events), (Verdict::Inconclusive, Some(reason)));
}
