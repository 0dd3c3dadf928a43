//! What campaign files come to: their cells, in what order, in which rows, and what their trials do.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails where it is"
)]

#[path = "common/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use brim_campaign::head::{Limits, Shard, Stop};
use brim_campaign::{Campaign, cell};
use brim_trial::Bytes;
use sha2::{Digest, Sha256};
use world::Anywhere;

fn parse(rest: &str) -> Campaign {
    let text = format!("schema = 1\nname = \"test\"\nabout = \"a test\"\n{rest}\n");
    Campaign::parse("test.toml", &text, &Anywhere, None)
        .map_err(|error| format!("{:?}", miette::Report::new(error)))
        .unwrap()
}

/// The values that the cells have of a parameter, in order.
fn values(campaign: &Campaign, param: &str) -> Vec<String> {
    campaign.head.cells.iter().map(|cell| cell.setting.params[param].clone()).collect()
}

const ALL: &str = r#"
seed   = 7
keep   = 5
limits = { trials = 1000, time = "90 s" }

[[sweep]]
scenario   = "btrfs/fallocate-then-pwrite"
kernel     = ["running", "uml/6.1"]
filesystem = ["btrfs", "ext4"]
profile    = ["none", "hdd-7200"]
mkfs       = [[], ["--label", "two words"]]
mount      = [["nodatacow", "noatime"]]
seed       = "1..2"
params     = { free = "66..67 blocks", record = ["4096 B", "132096 B"] }
stop       = { trials = 50, first_hit = true, width = "10 %", side_of = "2.5 %", confidence = "99 %" }
"#;

#[test]
fn all_combinations_are_there_the_last_varying_fastest() {
    let campaign = parse(ALL);
    let head = &campaign.head;
    assert_eq!(head.cells.len(), 2 * 2 * 2 * 2 * 2 * 2 * 2);
    assert_eq!((head.seed, head.keep), (7, 5));
    assert_eq!(head.limits, Limits { trials: Some(1000), seconds: Some(90), first_hit: false });
    let stop = Stop { trials: 50, first_hit: true, width: Some(0.1), side_of: Some(0.025), confidence: 0.99 };
    assert_eq!(head.sweeps[0].stop, stop);
    let axes: Vec<&str> = head.sweeps[0].axes.iter().map(|axis| axis.name.as_str()).collect();
    // `scenario` and `mount` have one value each.
    assert_eq!(axes, ["kernel", "filesystem", "profile", "seed", "mkfs", "param.free", "param.record"]);
    assert_eq!(
        values(&campaign, "free")[..5],
        ["66 blocks", "66 blocks", "67 blocks", "67 blocks", "66 blocks"]
    );
    assert_eq!(values(&campaign, "record")[..3], ["4096 B", "132096 B", "4096 B"]);
    assert!(
        head.cells.iter().enumerate().all(|(index, cell)| cell.row == index),
        "without a search a row is a cell"
    );
    let ids: BTreeSet<_> = head.cells.iter().map(|cell| &cell.id).collect();
    assert_eq!(ids.len(), head.cells.len());
    assert_eq!(
        head.cells.last().unwrap().command,
        "brim run btrfs/fallocate-then-pwrite --kernel uml/6.1 --filesystem ext4 --set 'free=67 blocks' \
         --set 'record=132096 B' \"--mkfs=--label 'two words'\" '--mount=nodatacow,noatime' --config hdd-7200"
    );
}

#[test]
fn the_plan_of_a_cell_is_what_its_setting_says() {
    let campaign = parse(ALL);
    let (first, last) = (&campaign.head.cells[0], campaign.head.cells.last().unwrap());
    let [first, last] = [first, last].map(|cell| campaign.plan(cell).unwrap());
    assert_eq!(
        (first.prepare.fill.data_free, last.prepare.fill.data_free),
        (Some(Bytes(66 * 4096)), Some(Bytes(67 * 4096)))
    );
    assert_eq!(last.filesystem.mkfs, ["--label", "two words"]);
    assert_eq!(last.filesystem.mount, ["nodatacow", "noatime"]);
    assert!(first.faults.is_empty() && !last.faults.is_empty(), "the disk's rows");
    assert!(campaign.head.cells.last().unwrap().known.is_empty(), "of another disk nothing is known");
    let gated = parse(
        "[[sweep]]\nscenario = \"btrfs/scrub-loses-accepted-write\"\nwithout_fault = [\"\", \"scrub\"]",
    );
    let faults = |cell: usize| campaign_faults(&gated, cell);
    assert_eq!((faults(0), faults(1)), (1, 0));
}

fn campaign_faults(campaign: &Campaign, cell: usize) -> usize {
    campaign.plan(&campaign.head.cells[cell]).unwrap().faults.len()
}

#[test]
fn a_search_makes_a_row_of_the_values_of_its_parameter() {
    let campaign = parse(
        "[[sweep]]\nscenario = \"btrfs/fallocate-then-pwrite\"\n\
         params = { free = \"60..62 blocks\", record = [\"4096 B\", \"8192 B\"] }\nsearch = { param = \"free\" }",
    );
    let rows: Vec<usize> = campaign.head.cells.iter().map(|cell| cell.row).collect();
    assert_eq!(rows, [0, 0, 0, 1, 1, 1]);
    assert_eq!(values(&campaign, "free")[..3], ["60 blocks", "61 blocks", "62 blocks"]);
    assert_eq!(values(&campaign, "record")[2..4], ["4096 B", "8192 B"]);
    assert_eq!(campaign.head.sweeps[0].stop.trials, 400);
}

#[test]
fn a_sample_is_of_the_whole_and_moves_with_the_seed_alone() {
    let sampled = |seed: u32| {
        parse(&format!(
            "seed = {seed}\n[[sweep]]\nscenario = \"btrfs/fallocate-then-pwrite\"\n\
             params = {{ free = \"0..200 blocks\", record = \"4096 B..262144 B step 16000 B\" }}\nselect = {{ sample = 100 }}"
        ))
    };
    let of = |campaign: &Campaign| -> Vec<String> {
        campaign.head.cells.iter().map(|cell| cell.command.clone()).collect()
    };
    let (one, other) = (of(&sampled(1)), of(&sampled(2)));
    assert_eq!((one.len(), &one), (100, &of(&sampled(1))));
    let both = one.iter().filter(|cell| other.contains(cell)).count();
    // 100 of 3417 drawn twice have 3 in common.
    assert!(both < 20, "{both}");
}

#[test]
fn pairwise_has_every_two_values_together_in_few_cells() {
    let campaign = parse(
        "[[sweep]]\nscenario = \"btrfs/fallocate-then-pwrite\"\nkernel = [\"running\", \"uml/6.1\", \"uml/6.12\"]\n\
         mount = [[], [\"nodatacow\"], [\"compress\"]]\nseed = \"1..3\"\nparams = { free = \"65..67 blocks\" }\nselect = \"pairwise\"",
    );
    let cells = &campaign.head.cells;
    assert!(cells.len() < 15, "{} of 81", cells.len());
    let pairs: BTreeSet<_> =
        cells.iter().map(|cell| (cell.setting.kernel.clone(), cell.setting.params["free"].clone())).collect();
    assert_eq!(pairs.len(), 9);
}

/// A cell's ID and its trials' seeds are the same whatever else is in the campaign, and in whatever shard.
#[test]
fn no_other_cell_moves_a_seed() {
    let sweep = "[[sweep]]\nscenario = \"btrfs/fallocate-then-pwrite\"\nparams = { free = ";
    let alone = parse(&format!("{sweep}\"66 blocks\" }}"));
    let among = parse(&format!("{sweep}\"0..200 blocks\" }}"));
    let id = &alone.head.cells[0].id;
    assert!(among.head.cells.iter().any(|cell| cell.id == *id));
    let seeds: BTreeSet<u64> = (1..=100).map(|number| cell::seed(1, id, number)).collect();
    assert_eq!(seeds.len(), 100);
    assert_ne!(cell::seed(2, id, 1), cell::seed(1, id, 1));
}

/// The hash is of the file and of what the scenarios come to, whatever shard it is.
#[test]
fn shards_have_the_hash_of_the_whole() {
    let text = format!("schema = 1\nname = \"test\"\nabout = \"a test\"\n{ALL}");
    let hash = |text: &str, shard| Campaign::parse("test.toml", text, &Anywhere, shard).unwrap().head.hash;
    let part = hash(&text, Some(Shard { index: 2, count: 3 }));
    assert_eq!(part, hash(&text, None));
    assert_ne!(part, hash(&text.replace("67 blocks", "68 blocks"), None));
}

/// Same file, same cells with the same IDs, seeds and plans: of today, and of the day when this was kept.
#[test]
fn a_campaign_is_the_same_as_ever() {
    let campaign = parse(ALL);
    let seeds: Vec<u64> = campaign.head.cells.iter().map(|known| cell::seed(7, &known.id, 3)).collect();
    let head = serde_json::to_vec(&(&campaign.head, seeds)).unwrap();
    let digest =
        Sha256::digest(&head).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}")) + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fingerprints/campaign.txt");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &digest).unwrap();
    }
    assert_eq!(
        fs::read_to_string(&path).unwrap_or_default(),
        digest,
        "another campaign than before; UPDATE_SNAPSHOTS=1 takes it over if that was meant:\n{}",
        String::from_utf8_lossy(&head)
    );
}
