//! Gates that let some requests go and hold others, in any order, and that hold again.

use serde_json::Value;

use crate::Test;
use crate::bench::{Journal, scenario};
use crate::needs::BTRFS;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("a_gate_lets_requests_go_in_any_order_and_holds_again", BTRFS, some_of_them),
        ("a_release_of_more_than_is_held_is_inconclusive", BTRFS, too_few),
    ]
}

/// `{ by, pwrite }` and `{ by, sync_file_range }` of one block of a file, the latter called `sync FILE`.
fn written_back(by: &str, file: &str) -> String {
    let range = format!("file = \"{file}\", offset = \"0 B\", length = \"1 block\"");
    format!(
        "{{ by = \"{by}\", do.pwrite = {{ {range} }} }},\n\
         {{ by = \"{by}\", name = \"sync {file}\", do.sync_file_range = {{ {range} }} }},\n"
    )
}

fn named<'a>(journal: &'a Journal, name: &str) -> &'a Value {
    let mut steps = journal.all("step").into_iter();
    steps.find(|step| step["step"] == name).unwrap_or_else(|| panic!("no {name}"))
}

fn place(journal: &Journal, name: &str) -> usize {
    journal.events.iter().position(|event| event == named(journal, name)).unwrap()
}

fn some_of_them() {
    let gate = "[[fault]]\nname = \"data\"\nwhen = { op = \"write\", region = \"data\" }\nthen = \"hold\"\n";
    let [first, second, third] = ["a", "b", "c"].map(|name| written_back(name, name));
    let [passing, failing] = ["d", "e"].map(|file| written_back("d", file));
    let rest = format!(
        "{gate}[[phase]]\nname = \"one after the other\"\nstep = [\n{first}\
         {{ by = \"b\", await.held = \"data\" }},\n{second}\
         {{ by = \"c\", await.held = {{ gate = \"data\", count = 2 }} }},\n{third}\
         {{ by = \"m\", name = \"three\", await.held = {{ gate = \"data\", count = 3 }} }},\n\
         {{ by = \"m\", name = \"some\", release = {{ gate = \"data\", only = [3, 1] }} }},\n\
         {{ by = \"m\", name = \"one\", await.held = \"data\" }},\n\
         {{ by = \"m\", name = \"last\", release = {{ gate = \"data\", first = 1 }} }},\n\
         {{ by = \"m\", name = \"none\", release = {{ gate = \"data\", order = \"reversed\" }} }},\n\
         {{ by = \"m\", name = \"open\", release = \"data\" }},\n]\n\
         [[phase]]\nname = \"open, then closed\"\nstep = [\n{passing}\
         {{ by = \"d\", close = \"data\" }},\n{failing}\
         {{ by = \"m\", name = \"again\", await.held = \"data\" }},\n\
         {{ by = \"m\", name = \"fail\", release = {{ gate = \"data\", error = \"EIO\" }} }},\n]\n\
         [[reproduced]]\nstep = \"sync e\"\nerrno = \"EIO\"\n"
    );
    let journal = Journal::of(&["run", &scenario(&rest).path]);
    assert_eq!(journal.verdict()["verdict"], "reproduced", "{}", journal.verdict());
    let three = named(&journal, "three")["held"].as_array().unwrap().clone();
    assert_eq!(three.len(), 3);
    let some = named(&journal, "some")["held"].as_array().unwrap();
    assert_eq!(some, &[three[2].clone(), three[0].clone()], "in the order that was asked for");
    assert_eq!(named(&journal, "some")["returned"], 2);
    assert_eq!(
        named(&journal, "one")["held"].as_array().unwrap(),
        &three[1..2],
        "the other one is held still"
    );
    assert_eq!(named(&journal, "last")["held"].as_array().unwrap(), &three[1..2]);
    assert_eq!(named(&journal, "none")["returned"], 0);
    for early in ["sync a", "sync c"] {
        assert!(place(&journal, early) < place(&journal, "sync b"), "{early} was let go before");
    }
    assert!(
        place(&journal, "last") < place(&journal, "sync d") && named(&journal, "sync d")["errno"].is_null()
    );
    assert_eq!(named(&journal, "again")["returned"], 1, "held again, after the gate was open for good");
    assert_eq!(named(&journal, "fail")["returned"], 1);
}

fn too_few() {
    let gate = "[[fault]]\nname = \"commit\"\nwhen = { op = \"flush\", nth = 1 }\nthen = \"hold\"\n";
    let rest = format!(
        "{gate}[[phase]]\nname = \"one, not two\"\nstep = [\n\
         {{ by = \"syncer\", do.pwrite = {{ file = \"f\", offset = \"0 B\", length = \"1 block\" }} }},\n\
         {{ by = \"syncer\", do.syncfs = {{}} }},\n\
         {{ by = \"writer\", await.held = \"commit\" }},\n\
         {{ by = \"writer\", release = {{ gate = \"commit\", first = 2 }} }},\n]\n\
         [[reproduced]]\nstep = \"syncfs\"\nerrno = \"EIO\"\n"
    );
    let journal = Journal::of(&["run", &scenario(&rest).path]);
    let verdict = journal.verdict();
    assert_eq!(verdict["verdict"], "inconclusive", "{verdict}");
    let reason = "release wanted 2 requests of its gate, which held 1, which no phase foresees";
    assert_eq!(verdict["reason"], reason);
    assert!(journal.all("stuck").is_empty(), "the gate opens at once");
    assert_eq!(named(&journal, "syncfs")["errno"], Value::Null);
}
