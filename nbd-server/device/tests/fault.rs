//! The fault table against a count kept beside it.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]

use brim_device::Bytes;
use brim_device::fault::{Decision, FaultTable, Op, Request, Row, RowError, Then, When};
use proptest::prelude::*;

fn row(name: &str, op: Option<Op>, nth: Option<u64>) -> Row {
    Row { name: name.to_owned(), when: When { op, nth }, then: Then::Hold }
}

fn request(op: Op) -> Request {
    Request { op, offset: Bytes(0), len: Bytes(4096) }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(prop::sample::select(&Op::ALL[..]), 0..60)
}

fn conditions() -> impl Strategy<Value = Vec<(Option<Op>, Option<u64>)>> {
    let op = prop::option::of(prop::sample::select(&Op::ALL[..]));
    prop::collection::vec((op, prop::option::of(1..20u64)), 0..5)
}

fn table(conditions: &[(Option<Op>, Option<u64>)]) -> FaultTable {
    let mut table = FaultTable::new();
    for (index, (op, nth)) in conditions.iter().enumerate() {
        table.add(row(&format!("row {index}"), *op, *nth)).unwrap();
    }
    table
}

proptest! {
    /// For all rows and requests: a row matches its operation, fires for its nth match or each, and the first that
    /// fires settles the request.
    #[test]
    fn the_first_row_that_fires_settles(conditions in conditions(), ops in ops()) {
        let mut table = table(&conditions);
        let mut matches = vec![0; conditions.len()];
        let mut firings = vec![0; conditions.len()];
        for op in ops {
            let mut expected = Decision::Pass;
            for (index, (wanted, nth)) in conditions.iter().enumerate() {
                if wanted.is_some_and(|wanted| wanted != op) {
                    continue;
                }
                matches[index] += 1;
                if expected == Decision::Pass && nth.is_none_or(|nth| nth == matches[index]) {
                    firings[index] += 1;
                    expected = Decision::Hold { row: index };
                }
            }
            prop_assert_eq!(table.decide(&request(op)), expected);
        }
        for (index, entry) in table.entries().iter().enumerate() {
            prop_assert_eq!((entry.matches, entry.firings), (matches[index], firings[index]));
        }
    }

    /// For all rows and requests: two tables decide alike, and a row added behind changes nothing for those before it.
    #[test]
    fn decisions_are_deterministic(conditions in conditions(), ops in ops()) {
        let (mut one, mut more) = (table(&conditions), table(&conditions));
        more.add(row("more", None, None)).unwrap();
        for op in ops {
            let decision = one.decide(&request(op));
            let behind = Decision::Hold { row: conditions.len() };
            let expected = if decision == Decision::Pass { behind } else { decision };
            prop_assert_eq!(more.decide(&request(op)), expected);
        }
        prop_assert_eq!(one.entries(), &more.entries()[..conditions.len()]);
    }

    /// For all tables: with all gates open everything passes, and is still counted.
    #[test]
    fn open_gates_count_and_hold_nothing(conditions in conditions(), ops in ops()) {
        let mut table = table(&conditions);
        table.open_all();
        for op in &ops {
            prop_assert_eq!(table.decide(&request(*op)), Decision::Pass);
        }
        for (entry, (wanted, _)) in table.entries().iter().zip(&conditions) {
            let matching = ops.iter().filter(|op| wanted.is_none_or(|wanted| wanted == **op)).count();
            prop_assert_eq!((entry.matches, entry.firings), (Bytes::of_len(matching).0, 0));
        }
    }
}

#[test]
fn one_gate_opens_and_the_others_hold() {
    let mut table = table(&[(Some(Op::Write), None), (None, None)]);
    assert_eq!(table.decide(&request(Op::Write)), Decision::Hold { row: 0 });
    assert!(table.open("row 0"));
    assert!(!table.open("nobody"));
    assert_eq!(table.decide(&request(Op::Write)), Decision::Hold { row: 1 });
}

#[test]
fn rows_that_cannot_work_are_refused() {
    let mut table = FaultTable::new();
    table.add(row("gate", None, None)).unwrap();
    let error = table.add(row("gate", None, None)).unwrap_err();
    assert_eq!(error, RowError::DuplicateName { name: "gate".to_owned() });
    let error = table.add(row("never", None, Some(0))).unwrap_err();
    assert_eq!(error, RowError::NthZero { name: "never".to_owned() });
    assert_eq!(table.entries().len(), 1);
}

#[test]
fn rows_are_read_as_a_scenario_has_them() {
    let text = r#"{ "name": "commit", "when": { "op": "write", "nth": 1 }, "then": "hold" }"#;
    let commit = row("commit", Some(Op::Write), Some(1));
    assert_eq!(serde_json::from_str::<Row>(text).unwrap(), commit);
    let back = serde_json::to_string(&commit).unwrap();
    assert_eq!(back, r#"{"name":"commit","when":{"op":"write","nth":1},"then":"hold"}"#);
    let bare = serde_json::from_str::<Row>(r#"{ "name": "all", "then": "hold" }"#).unwrap();
    assert_eq!(bare, row("all", None, None));
    for wrong in [
        r#"{ "name": "x", "then": "hold", "wen": {} }"#,
        r#"{ "name": "x", "then": "hold", "when": { "opp": "write" } }"#,
        r#"{ "name": "x", "then": "held" }"#,
        r#"{ "name": "x" }"#,
    ] {
        assert!(serde_json::from_str::<Row>(wrong).is_err(), "{wrong}");
    }
}
