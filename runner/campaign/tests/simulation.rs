//! Campaigns on a rig that is not there: each trial comes out as its seed has it, at a rate that is planted for its cell. All
//! else is what runs real campaigns: cells, seeds, rows, rules, limits, result.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails where it is"
)]

use std::collections::BTreeMap;

use brim_campaign::cell::{self, Setting};
use brim_campaign::head::{Limits, Search, Shard, Stop, Sweep};
use brim_campaign::ledger::Next;
use brim_campaign::result::{CampaignResult, CellEnded, Ended, Found, Run};
use brim_campaign::{Cell, Head, Ledger, TrialRecord};
use brim_trial::{Nanos, Verdict};
use proptest::prelude::*;

const STOP: Stop = Stop { trials: 1, first_hit: false, width: None, side_of: None, confidence: 0.95 };

/// A campaign of `count` cells, `row` in each row.
fn head(seed: u64, count: usize, row: usize, stop: Stop, search: Option<Search>) -> Head {
    let cell = |index: usize| {
        let setting = Setting {
            scenario: "simulated".to_owned(),
            params: BTreeMap::from([("free".to_owned(), format!("{index} blocks"))]),
            filesystem: None,
            mkfs: None,
            mount: None,
            kernel: "running".to_owned(),
            profile: None,
            without_fault: Vec::new(),
            seed: None,
        };
        Cell {
            id: setting.id(),
            sweep: 0,
            row: index / row,
            command: setting.command(),
            setting,
            known: Vec::new(),
        }
    };
    let sweep = Sweep { name: "simulated".to_owned(), axes: Vec::new(), stop, search };
    Head {
        schema: 1,
        name: "simulated".to_owned(),
        about: String::new(),
        seed,
        hash: String::new(),
        shard: None,
        limits: Limits::default(),
        keep: 3,
        sweeps: vec![sweep],
        cells: (0..count).map(cell).collect(),
    }
}

/// Between 0 and 1, as the seed has it.
fn dice(seed: u64) -> f64 {
    // splitmix64's last step, so that seeds next to each other have nothing in common.
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    f64::from(u32::try_from((z ^ (z >> 31)) >> 32).unwrap()) / f64::from(u32::MAX)
}

/// A trial on the rig that is not there.
fn trial(head: &Head, next: Next, rate: &dyn Fn(usize) -> f64) -> TrialRecord {
    let cell = &head.cells[next.cell];
    let seed = cell::seed(head.seed, &cell.id, next.number);
    let hit = dice(seed) < rate(next.cell);
    TrialRecord {
        cell: cell.id.clone(),
        number: next.number,
        seed,
        verdict: Some(if hit { Verdict::Reproduced } else { Verdict::NotReproduced }),
        step: None,
        errno: None,
        space: None,
        signature: hit.then(|| "pwrite/ENOSPC/data".to_owned()),
        reason: None,
        unreached: false,
        data_free: None,
        kernel_log: 0,
        nanos: Nanos(1),
    }
}

fn next(ledger: &Ledger<'_>, ahead: u32) -> Option<Next> {
    (0..ledger.horizon()).find_map(|row| ledger.next_of(row, ahead))
}

/// Runs to the end, one trial after the other; gives the trials too.
fn run(head: &Head, rate: &dyn Fn(usize) -> f64) -> (CampaignResult, Vec<TrialRecord>) {
    let mut ledger = Ledger::new(head);
    let mut records = Vec::new();
    while let Some(next) = next(&ledger, 0).filter(|_| !ledger.is_done()) {
        ledger.issue(next, true);
        let record = trial(head, next, rate);
        assert!(ledger.record(&record));
        records.push(record);
    }
    assert!(ledger.is_done());
    (ledger.result(BTreeMap::new(), false), records)
}

fn text(result: &CampaignResult) -> String {
    serde_json::to_string_pretty(result).unwrap()
}

/// Runs with several workers whose trials end in any order, and with kills that lose the trials under way; each choice is taken
/// from `chaos`, and where that ends the first possibility is taken.
fn run_in_disorder(head: &Head, rate: &dyn Fn(usize) -> f64, chaos: &[u8]) -> Vec<TrialRecord> {
    let mut choices = chaos.iter().copied();
    let mut kept: Vec<TrialRecord> = Vec::new();
    loop {
        let mut ledger = Ledger::new(head);
        for record in &kept {
            ledger.record(record);
        }
        let mut under_way: Vec<Next> = Vec::new();
        loop {
            while let Some(next) = next(&ledger, 3).filter(|_| under_way.len() < 4 && !ledger.is_done()) {
                ledger.issue(next, true);
                under_way.push(next);
            }
            if ledger.is_done() || under_way.is_empty() {
                assert!(ledger.is_done());
                return kept;
            }
            let choice = usize::from(choices.next().unwrap_or(0));
            if choice > 240 {
                break; // killed
            }
            let record = trial(head, under_way.remove(choice % under_way.len()), rate);
            ledger.record(&record);
            kept.push(record);
        }
    }
}

fn result_of(head: &Head, records: &[TrialRecord]) -> CampaignResult {
    let mut ledger = Ledger::new(head);
    for record in records {
        ledger.record(record);
    }
    ledger.result(BTreeMap::new(), false)
}

fn stops() -> impl Strategy<Value = Stop> {
    (1u32..30, any::<bool>(), prop::option::of(0.1..0.9f64), prop::option::of(0.1..0.9f64)).prop_map(
        |(trials, first_hit, width, side_of)| Stop { trials, first_hit, width, side_of, confidence: 0.95 },
    )
}

fn limits() -> impl Strategy<Value = Limits> {
    (prop::option::of(1u64..120), any::<bool>()).prop_map(|(trials, first_hit)| Limits {
        trials,
        seconds: None,
        first_hit,
    })
}

fn search() -> Search {
    Search { param: "free".to_owned(), rate: 0.5, confidence: 0.95, verify: 8 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// For all rules, limits, orders in which trials end, and kills: the result is that of one worker that nobody kills, byte for
    /// byte; no trial is lost and none counted twice.
    #[test]
    fn disorder_and_kills_change_nothing(
        seed in any::<u64>(), count in 1usize..12, stop in stops(), limits in limits(), rate in 0.0..1.0f64,
        chaos in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let head = Head { limits, ..head(seed, count, 1, stop, None) };
        let rate = |cell: usize| if cell.is_multiple_of(3) { rate } else { rate / 4.0 };
        let records = run_in_disorder(&head, &rate, &chaos);
        prop_assert_eq!(text(&result_of(&head, &records)), text(&run(&head, &rate).0));
    }

    /// The same for searches.
    #[test]
    fn disorder_and_kills_change_no_search(
        seed in any::<u64>(), rows in 1usize..4, at in 0usize..20, flaky in 0.0..0.3f64,
        trials in prop::option::of(1u64..400), chaos in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let stop = Stop { trials: 60, ..STOP };
        let limits = Limits { trials, ..Limits::default() };
        let head = Head { limits, ..head(seed, rows * 20, 20, stop, Some(search())) };
        let rate = |cell: usize| if cell % 20 < at { flaky } else { 1.0 - flaky };
        let records = run_in_disorder(&head, &rate, &chaos);
        prop_assert_eq!(text(&result_of(&head, &records)), text(&run(&head, &rate).0));
    }

    /// For all numbers of shards, rules and limits: what the shards did, put together, has the result of one machine.
    #[test]
    fn shards_together_are_one_machine(
        seed in any::<u64>(), count in 1usize..20, stop in stops(), limits in limits(), rate in 0.0..1.0f64, shards in 1usize..6,
    ) {
        let head = Head { limits, ..head(seed, count, 1, stop, None) };
        let rate = |cell: usize| if cell.is_multiple_of(3) { rate } else { rate / 4.0 };
        let mut together = Vec::new();
        for index in 1..=shards {
            let part = Head { shard: Some(Shard { index, count: shards }), ..head.clone() };
            together.extend(run(&part, &rate).1);
        }
        prop_assert_eq!(text(&result_of(&head, &together)), text(&run(&head, &rate).0));
    }

    /// The same where rows are searches, which a shard runs whole.
    #[test]
    fn shards_together_are_one_machine_that_searches(
        seed in any::<u64>(), rows in 1usize..6, at in 0usize..12, flaky in 0.0..0.3f64,
        trials in prop::option::of(1u64..300), shards in 1usize..5,
    ) {
        let limits = Limits { trials, ..Limits::default() };
        let head = Head { limits, ..head(seed, rows * 12, 12, Stop { trials: 40, ..STOP }, Some(search())) };
        let rate = |cell: usize| if cell % 12 < at { flaky } else { 1.0 - flaky };
        let mut together = Vec::new();
        for index in 1..=shards {
            let part = Head { shard: Some(Shard { index, count: shards }), ..head.clone() };
            together.extend(run(&part, &rate).1);
        }
        prop_assert_eq!(text(&result_of(&head, &together)), text(&run(&head, &rate).0));
    }

    /// For all ways to split the trials of a campaign over directories, in whatever order these are read, with some trials in
    /// several: together they have the result of the whole.
    #[test]
    fn any_split_put_together_is_the_whole(
        seed in any::<u64>(), count in 1usize..12, stop in stops(), limits in limits(), rate in 0.0..1.0f64,
        places in prop::collection::vec((0usize..5, 0usize..5), 1..50), order in Just([0, 1, 2, 3, 4]).prop_shuffle(),
    ) {
        let head = Head { limits, ..head(seed, count, 1, stop, None) };
        let (whole, records) = run(&head, &|_| rate);
        let mut parts = vec![Vec::new(); 5];
        for (record, (one, other)) in records.iter().zip(places.iter().cycle()) {
            parts[*one].push(record.clone());
            if other > one {
                parts[*other].push(record.clone());
            }
        }
        let together: Vec<TrialRecord> = order.iter().flat_map(|part| parts[*part].clone()).collect();
        prop_assert_eq!(text(&result_of(&head, &together)), text(&whole));
    }
}

/// How many of 100 campaigns, by their seeds 1 to 100, have the planted rate within their interval.
fn recovered(planted: f64, stop: Stop) -> usize {
    let recovers = |seed: &u64| {
        let (result, _) = run(&head(*seed, 1, 1, stop, None), &|_| planted);
        let rate = result.cells[0].rate.unwrap();
        (rate.low..=rate.high).contains(&planted)
    };
    (1..=100).filter(recovers).count()
}

/// A planted rate is within its interval of 95 % in 95 of 100 campaigns: by rates from flaky to almost always, with a fixed number
/// of trials and repeated until the interval is narrow. All of it together holds what 95 % promises.
#[test]
fn a_planted_rate_is_recovered() {
    let fixed = Stop { trials: 300, ..STOP };
    let until_narrow = Stop { trials: 5000, width: Some(0.1), ..STOP };
    let mut all = 0;
    for planted in [0.02, 0.1, 0.3, 0.5, 0.9] {
        for (name, stop) in [("fixed", fixed), ("until narrow", until_narrow)] {
            let recovered = recovered(planted, stop);
            // One group of 100 may be unlucky: fewer than 90 happens to one in 80 that is right.
            assert!(recovered >= 90, "{planted} {name}: {recovered} of 100");
            all += recovered;
        }
    }
    assert!(all >= 950, "{all} of 1000");
    let flaky = recovered(0.1, fixed);
    assert!(flaky >= 95, "a rate of 10 % by 300 trials: {flaky} of 100");
}

/// A rule that looks at the rate after each trial is wrong about its side in no more than 5 of 100 campaigns.
#[test]
fn a_decision_is_as_sure_as_it_says() {
    let stop = Stop { trials: 100_000, side_of: Some(0.3), ..STOP };
    for planted in [0.25, 0.35] {
        let wrong = |seed: &u64| {
            let (result, _) = run(&head(*seed, 1, 1, stop, None), &|_| planted);
            result.cells[0].ended != if planted < 0.3 { CellEnded::Below } else { CellEnded::Above }
        };
        let wrong = (1..=100).filter(wrong).count();
        assert!(wrong <= 5, "{planted}: {wrong} of 100");
    }
}

/// A threshold whose values are flaky on both sides is found where it is in 95 of 100 campaigns.
#[test]
fn a_flaky_threshold_is_found() {
    let stop = Stop { trials: 2000, ..STOP };
    let search = Search { verify: 16, ..search() };
    for (below, above) in [(0.0, 1.0), (0.1, 0.8), (0.3, 0.7)] {
        let rate = |cell: usize| if cell < 66 { below } else { above };
        let found = |seed: &u64| {
            let (result, _) = run(&head(*seed, 140, 140, stop, Some(search.clone())), &rate);
            matches!(&result.thresholds[0].found, Found::Threshold { before, after, above_after: true, undecided: 0, .. }
                if before == "65 blocks" && after == "66 blocks")
        };
        let found = (1..=100).filter(found).count();
        assert!(found >= 95, "{below} to {above}: {found} of 100");
    }
}

/// A rate that rises slowly has values that no number of trials decides: they are stepped around, and said.
#[test]
fn a_slow_rise_is_bracketed() {
    let stop = Stop { trials: 100, ..STOP };
    let rate = |cell: usize| f64::from(u32::try_from(cell).unwrap()) / 100.0;
    let (result, _) = run(&head(7, 101, 101, stop, Some(Search { verify: 0, ..search() })), &rate);
    let Found::Threshold { before, after, undecided, .. } = &result.thresholds[0].found else {
        panic!("{:?}", result.thresholds[0].found)
    };
    let number = |text: &str| text.split(' ').next().unwrap().parse::<u32>().unwrap();
    assert!(number(before) < 50 && number(after) > 50 && *undecided > 0, "{before} {after}");
}

/// Where the rate crosses more than once that is said, with all places; the ends look alike here, and no bisection would see it.
#[test]
fn a_map_that_is_not_monotone_is_told() {
    let stop = Stop { trials: 100, ..STOP };
    let rate = |cell: usize| if [66, 99, 132].contains(&cell) { 1.0 } else { 0.0 };
    let search = Search { verify: 256, ..search() };
    let (result, _) = run(&head(1, 141, 141, stop, Some(search)), &rate);
    let Found::NotMonotone { runs } = &result.thresholds[0].found else {
        panic!("{:?}", result.thresholds[0].found)
    };
    let run = |first: u32, last: u32, above| Run {
        first: format!("{first} blocks"),
        last: format!("{last} blocks"),
        above,
    };
    assert_eq!(
        *runs,
        [
            run(0, 65, false),
            run(66, 66, true),
            run(67, 98, false),
            run(99, 99, true),
            run(100, 131, false),
            run(132, 132, true),
            run(133, 140, false),
        ]
    );
}

#[test]
fn limits_say_why_the_campaign_ended() {
    let stop = Stop { trials: 10, ..STOP };
    let ended = |limits: Limits, rate: f64| run(&Head { limits, ..head(1, 10, 1, stop, None) }, &|_| rate).0;
    let none = ended(Limits::default(), 0.0);
    assert_eq!((none.ended, none.trials, none.cells.len()), (Ended::Done, 100, 10));
    let some = ended(Limits { trials: Some(34), ..Limits::default() }, 0.0);
    assert_eq!(
        (some.ended, some.trials, some.cells.len(), some.cells[3].ended),
        (Ended::Trials, 34, 4, CellEnded::Open)
    );
    let hit = ended(Limits { first_hit: true, ..Limits::default() }, 0.02);
    assert_eq!((hit.ended, hit.reproduced), (Ended::FirstHit, 1));
    assert_eq!(hit.groups[0].first.number, hit.cells.last().unwrap().trials);
}
