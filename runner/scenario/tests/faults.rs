//! Every form of a fault, as it arrives in the table.

use brim_device::fault::{
    Bucket, Delay, ErrorName, Flip, Latency, Limit, Op, Row, Seek, Sizes, Then, Unit, When,
};
use brim_device::{ByteRange, Bytes, Nanos, Ratio};
use brim_scenario::{Profile, faults};

fn files(name: &str) -> Result<String, String> {
    match name {
        "good.txt" => Ok("# seen on a desk\n100 us 990\n\n  2 ms   10 # the tail\n".to_owned()),
        "bad.txt" => Ok("100 us 990\nsoon 3\n".to_owned()),
        _ => Err("no such file".to_owned()),
    }
}

fn one(when: &str, then: &str) -> Row {
    let text = format!("[[fault]]\nname = \"row\"\nwhen = {when}\nthen = {then}\n");
    let mut rows = faults("test", &text, &files).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(rows.len(), 1);
    rows.remove(0)
}

#[test]
fn every_condition_arrives() {
    let when = one(
        r#"{ op = ["write", "zeroes"], fua = true, range = { offset = "64 KiB", length = "1 block" }, region = "any name",
            size = { min = "512 B", max = "1 MiB" }, nth = 1, every = 2, between = [3, 4], probability = "25 %", times = 5 }"#
            .replace('\n', " ")
            .as_str(),
        r#""hold""#,
    )
    .when;
    let expected = When {
        op: [Op::Write, Op::Zeroes].into_iter().collect(),
        fua: Some(true),
        range: Some(ByteRange { offset: Bytes(65536), length: Bytes(4096) }),
        region: Some("any name".to_owned()),
        size: Some(Sizes { min: Some(Bytes(512)), max: Some(Bytes(1 << 20)) }),
        while_gate: None,
        nth: Some(1),
        every: Some(2),
        between: Some((3, 4)),
        probability: Ratio::from_f64(0.25),
        times: Some(5),
    };
    assert_eq!(when, expected);
    assert_eq!(one("{ once = true }", r#""hold""#).when.times, Some(1));
    assert_eq!(one("{ once = false }", r#""hold""#).when.times, None);
    assert_eq!(one("{ probability = 0.5 }", r#""hold""#).when.probability, Ratio::from_f64(0.5));
    assert_eq!(one("{ probability = 1 }", r#""hold""#).when.probability, Some(Ratio::ONE));
}

#[test]
fn every_outcome_arrives() {
    let ms = |ms: u64| Nanos(ms * 1_000_000);
    let delay = |latency: Latency| Then::Delay(latency.into());
    let ratio = |number| Ratio::from_f64(number).unwrap();
    let seek = Seek { min: ms(1), max: ms(15), rpm: 7200, bytes_per_second: 120 << 20 };
    let buckets = vec![Bucket { latency: Nanos(100_000), count: 990 }, Bucket { latency: ms(2), count: 10 }];
    for (text, then) in [
        (r#""hold""#, Then::HOLD),
        (r"{ hold = {} }", Then::HOLD),
        (r#"{ hold = { limit = "30 s" } }"#, Then::Hold { limit: Some(ms(30_000)) }),
        (r#""drop""#, Then::Drop),
        (r#""volatile""#, Then::Volatile),
        (r#""torn""#, Then::Torn { sectors: None }),
        (r"{ torn = { sectors = 0 } }", Then::Torn { sectors: Some(0) }),
        (r#""disconnect""#, Then::Disconnect),
        (r#""close""#, Then::Close),
        (r#"{ error = "ENOSPC" }"#, Then::Error(ErrorName::Enospc)),
        (r#"{ misdirect = { by = "8 KiB" } }"#, Then::Misdirect { by: Bytes(8192) }),
        (r"{ flip = { bits = 3 } }", Then::Flip(Flip { bits: 3, at_rest: false })),
        (r"{ flip = { bits = 3, at_rest = true } }", Then::Flip(Flip { bits: 3, at_rest: true })),
        (
            r"{ limit = { requests_per_second = 100, burst = 10 } }",
            Then::Limit(Limit { unit: Unit::Requests, per_second: 100, burst: 10 }),
        ),
        (
            r#"{ limit = { bytes_per_second = "1 MiB" } }"#,
            Then::Limit(Limit { unit: Unit::Bytes, per_second: 1 << 20, burst: 0 }),
        ),
        (
            r#"{ seek = { min = "1 ms", max = "15 ms", rpm = 7200, bytes_per_second = "120 MiB" } }"#,
            Then::Seek(seek),
        ),
        (r#"{ delay = "250 us" }"#, delay(Latency::Fixed(Nanos(250_000)))),
        (
            r#"{ delay = { fixed = "1 ms", at_most = "3 ms" } }"#,
            Then::Delay(Delay { latency: Latency::Fixed(ms(1)), at_most: Some(ms(3)) }),
        ),
        (
            r#"{ delay = { uniform = { min = "1 ms", max = "2 ms" } } }"#,
            delay(Latency::Uniform { min: ms(1), max: ms(2) }),
        ),
        (
            r#"{ delay = { normal = { mean = "3 ms", deviation = "1 ms" } } }"#,
            delay(Latency::Normal { mean: ms(3), deviation: ms(1) }),
        ),
        (r#"{ delay = { exponential = { mean = "3 ms" } } }"#, delay(Latency::Exponential { mean: ms(3) })),
        (
            r#"{ delay = { lognormal = { median = "1 ms", sigma = 0.5 } } }"#,
            delay(Latency::Lognormal { median: ms(1), sigma: ratio(0.5) }),
        ),
        (
            r#"{ delay = { pareto = { min = "1 ms", shape = "1.5" } } }"#,
            delay(Latency::Pareto { min: ms(1), shape: ratio(1.5) }),
        ),
        (r#"{ delay = { histogram = "good.txt" } }"#, delay(Latency::Histogram(buckets))),
    ] {
        assert_eq!(one("{}", text).then, then, "{text}");
    }
}

#[test]
fn a_histogram_says_which_line_is_wrong() {
    let text = "[[fault]]\nname = \"x\"\nwhen = {}\nthen = { delay = { histogram = \"bad.txt\" } }\n";
    let error = faults("test", text, &files).unwrap_err();
    assert_eq!(error.to_string(), "line 2 of `bad.txt` is `soon 3`");
}

#[test]
fn a_profile_is_a_disk_and_its_faults() {
    let text = r#"
schema = 1
name   = "tape"
about  = "a slow one"
source = "nobody"

[device]
size        = "1 GiB"
write_cache = true
rotational  = true

[[fault]]
name = "slow"
when = { op = "read" }
then = { delay = "1 s" }
"#;
    let profile = Profile::parse("tape.toml", text, &files).unwrap();
    assert_eq!((profile.name.as_str(), profile.size), ("tape", Some(Bytes(1 << 30))));
    assert!(profile.write_cache && profile.rotational);
    assert_eq!(profile.faults.len(), 1);
    let error = Profile::parse("tape.toml", &text.replace("about ", "abuot "), &files).unwrap_err();
    assert_eq!(error.to_string(), "the key `abuot` is not known here");
    let error = Profile::parse("tape.toml", &text.replace("1 GiB", "1000 B"), &files).unwrap_err();
    assert_eq!(error.to_string(), "`size` is 1000 B: not a multiple of 512 B");
}
