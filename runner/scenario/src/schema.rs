//! The keys of a scenario file, as they are written. What the values mean is checked elsewhere.

pub(crate) mod administration;
pub(crate) mod device;
pub(crate) mod fault;

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

pub(crate) use fault::Fault;

/// A string, and where it stands.
pub(crate) type Text = Spanned<String>;

/// A table of parameters: name to value.
pub(crate) type ParamTable = BTreeMap<Spanned<String>, Spanned<Scalar>>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    #[serde(rename = "schema")]
    _schema: i64,
    pub(crate) name: Text,
    pub(crate) claim: Text,
    pub(crate) source: Text,
    #[serde(default)]
    pub(crate) params: ParamTable,
    pub(crate) step_limit: Option<Spanned<Formula>>,
    pub(crate) device: device::Devices,
    pub(crate) filesystem: Table<Filesystem>,
    #[serde(default)]
    pub(crate) prepare: Table<Prepare>,
    #[serde(default, rename = "override")]
    pub(crate) overrides: Vec<Table<Override>>,
    #[serde(default, rename = "fault")]
    pub(crate) faults: Vec<Table<Fault>>,
    #[serde(rename = "phase")]
    pub(crate) phases: Vec<Table<Phase>>,
    pub(crate) reproduced: Spanned<Vec<Table<Reproduced>>>,
    #[serde(default)]
    pub(crate) known: Vec<Table<Known>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filesystem {
    pub(crate) kind: Text,
    #[serde(default)]
    pub(crate) mkfs: Vec<Text>,
    #[serde(default)]
    pub(crate) mount: Vec<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Prepare {
    pub(crate) fill: Option<Spanned<Table<Fill>>>,
    #[serde(default)]
    pub(crate) step: Vec<Spanned<Table<Step>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fill {
    pub(crate) data_free: Option<Spanned<Formula>>,
    pub(crate) metadata_free: Option<Spanned<Formula>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Override {
    pub(crate) filesystem: Text,
    pub(crate) params: ParamTable,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Phase {
    pub(crate) name: Text,
    pub(crate) until: Option<Text>,
    pub(crate) times: Option<Spanned<Scalar>>,
    pub(crate) step: Spanned<Vec<Spanned<Table<Step>>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    pub(crate) by: Option<Text>,
    #[serde(rename = "do")]
    pub(crate) verb: Option<Spanned<Verb>>,
    #[serde(rename = "await")]
    pub(crate) wait: Option<Spanned<Table<Await>>>,
    pub(crate) release: Option<Spanned<fault::Worded<Release>>>,
    pub(crate) close: Option<Text>,
    pub(crate) arm: Option<Text>,
    pub(crate) name: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Await {
    pub(crate) held: Spanned<Held>,
}

/// The name of a gate, or a table with it.
#[derive(Debug)]
pub(crate) enum Held {
    Gate(String),
    Table(HeldTable),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeldTable {
    pub(crate) gate: Text,
    pub(crate) count: Option<Spanned<Scalar>>,
}

/// What a gate lets go while it holds others.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Release {
    pub(crate) gate: Text,
    pub(crate) first: Option<Spanned<Scalar>>,
    pub(crate) order: Option<Text>,
    pub(crate) only: Option<Spanned<Vec<Spanned<Scalar>>>>,
    pub(crate) error: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Panic {
    pub(crate) trial: Option<Spanned<Scalar>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verb {
    Fallocate(Table<Fallocate>),
    Pwrite(Table<Pwrite>),
    Pread(Table<Pread>),
    Fsync(Table<OneFile>),
    Fdatasync(Table<OneFile>),
    SyncFileRange(Table<Range>),
    Syncfs(Table<Nothing>),
    Truncate(Table<Truncate>),
    Unlink(Table<OneFile>),
    ResizeDisk(Table<administration::ResizeDisk>),
    Nocow(Table<OneFile>),
    Subvolume(Table<Subvolume>),
    Snapshot(Table<Snapshot>),
    Reflink(Table<Reflink>),
    Scrub(Table<Nothing>),
    DropCaches(Table<Nothing>),
    Panic(Table<Panic>),
    Remount(Table<administration::Remount>),
    Check(Table<Nothing>),
    PowerCut(Table<PowerCut>),
    DeviceAdd(Table<administration::OneDevice>),
    DeviceRemove(Table<administration::OneDevice>),
    DeviceReplace(Table<administration::DeviceReplace>),
    LoseDevice(Table<administration::LoseDevice>),
    Balance(Box<Table<administration::Balance>>),
    ResizeFilesystem(Table<administration::ResizeFilesystem>),
    Defragment(Table<administration::Defragment>),
    Compress(Table<administration::Compress>),
    QuotaEnable(Table<Nothing>),
    QuotaRescan(Table<Nothing>),
    QgroupLimit(Table<administration::QgroupLimit>),
    SubvolumeDelete(Table<Subvolume>),
    WaitCleaner(Table<Nothing>),
    Fstrim(Table<Nothing>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pread {
    pub(crate) file: Text,
    pub(crate) offset: Spanned<Formula>,
    pub(crate) length: Spanned<Formula>,
    pub(crate) expect: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Range {
    pub(crate) file: Text,
    pub(crate) offset: Spanned<Formula>,
    pub(crate) length: Spanned<Formula>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Subvolume {
    pub(crate) path: Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Snapshot {
    pub(crate) of: Text,
    pub(crate) to: Text,
    #[serde(default)]
    pub(crate) read_only: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reflink {
    pub(crate) from: Text,
    pub(crate) to: Text,
    pub(crate) offset: Spanned<Formula>,
    pub(crate) length: Spanned<Formula>,
    pub(crate) to_offset: Option<Spanned<Formula>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fallocate {
    pub(crate) file: Text,
    pub(crate) offset: Spanned<Formula>,
    pub(crate) length: Spanned<Formula>,
    #[serde(default)]
    pub(crate) keep_size: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pwrite {
    pub(crate) file: Text,
    pub(crate) offset: Spanned<Formula>,
    pub(crate) length: Spanned<Formula>,
    pub(crate) data: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OneFile {
    pub(crate) file: Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PowerCut {
    pub(crate) kept: Option<Spanned<fault::Number>>,
    pub(crate) torn: Option<Spanned<fault::Number>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Truncate {
    pub(crate) file: Text,
    pub(crate) size: Spanned<Formula>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reproduced {
    pub(crate) step: Text,
    pub(crate) errno: Option<Text>,
    pub(crate) space: Option<Text>,
    pub(crate) content: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Known {
    pub(crate) filesystem: Option<Text>,
    pub(crate) kernel: Option<Text>,
    pub(crate) params: Option<BTreeMap<Spanned<String>, Spanned<Values>>>,
    pub(crate) verdict: Text,
}

/// A table, and nothing else: what serde derives for a struct also takes a list of its values.
#[derive(Debug, Default)]
pub struct Table<T>(T);

/// A table that a message can describe.
pub trait Shape {
    /// Behind "write": what the table looks like.
    const SHAPE: &str;
}

macro_rules! shapes {
    ($($table:ty => $shape:literal,)*) => {
        $(impl $crate::schema::Shape for $table {
            const SHAPE: &str = $shape;
        })*
    };
}

pub(crate) use shapes;

shapes! {
    Filesystem => "a table such as `{ kind = \"btrfs\" }`",
    Prepare => "a table such as `{ fill = { data_free = \"66 blocks\" } }`",
    Fill => "a table such as `{ data_free = \"66 blocks\" }`",
    Override => "a table such as `{ filesystem = \"xfs\", params = { … } }`",
    Phase => "a table with `name` and `step`",
    Step => "a table such as `{ do.fsync = { file = \"blob\" } }`",
    Panic => "a table such as `{ trial = 5 }`, or `{}`",
    Release => "the name of a `[[fault]]`, or a table such as `{ gate = \"GATE\", first = 2 }`",
    Await => "a table such as `{ held = \"GATE\" }`",
    Fallocate => "a table with `file`, `offset` and `length`",
    Pwrite => "a table with `file`, `offset` and `length`",
    Pread => "a table with `file`, `offset` and `length`",
    Range => "a table with `file`, `offset` and `length`",
    Subvolume => "a table such as `{ path = \"subvol\" }`",
    Snapshot => "a table such as `{ of = \"subvol\", to = \"snap\" }`",
    Reflink => "a table with `from`, `to`, `offset` and `length`",
    OneFile => "a table such as `{ file = \"blob\" }`",
    Nothing => "an empty table: `{}`",
    PowerCut => "a table such as `{}`, or `{ kept = \"50 %\", torn = \"10 %\" }`",
    Truncate => "a table with `file` and `size`",
    Reproduced => "a table with `step`, and `errno` or `space`",
    Known => "a table with `verdict`",
}

impl<T> Deref for Table<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<'de, T: Shape + Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys<T>(PhantomData<T>);
        impl<'de, T: Shape + Deserialize<'de>> Visitor<'de> for Keys<T> {
            type Value = Table<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::SHAPE)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Table<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Table)
            }
        }
        deserializer.deserialize_map(Keys(PhantomData))
    }
}

/// A string that is a quantity or an expression.
#[derive(Debug)]
pub(crate) struct Formula(String);

/// A string or a whole number, as text.
#[derive(Debug)]
pub struct Scalar(String);

/// One value of a parameter, or several.
#[derive(Debug)]
pub enum Values {
    /// One.
    One(Scalar),
    /// Several, in their order.
    Several(Vec<Spanned<Scalar>>),
}

impl AsRef<str> for Formula {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Scalar {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Values {
    fn as_ref(&self) -> &str {
        match self {
            Self::One(scalar) => scalar.as_ref(),
            Self::Several(_) => "",
        }
    }
}

impl<'de> Deserialize<'de> for Formula {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Quoted;
        impl Visitor<'_> for Quoted {
            type Value = Formula;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity in quotes and with its unit, such as \"64 KiB\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Formula, E> {
                Ok(Formula(text.to_owned()))
            }
        }
        deserializer.deserialize_str(Quoted)
    }
}

impl<'de> Deserialize<'de> for Held {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrTable;
        impl<'de> Visitor<'de> for NameOrTable {
            type Value = Held;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a `[[fault]]`, or a table such as `{ gate = \"GATE\", count = 2 }`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Held, E> {
                Ok(Held::Gate(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Held, A::Error> {
                HeldTable::deserialize(MapAccessDeserializer::new(map)).map(Held::Table)
            }
        }
        deserializer.deserialize_any(NameOrTable)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Single;
        impl Visitor<'_> for Single {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string such as \"66 blocks\", or a whole number")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.to_owned()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }
        }
        deserializer.deserialize_any(Single)
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrSeveral;
        impl<'de> Visitor<'de> for OneOrSeveral {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value, a range such as \"60..65 blocks\", or a list of them")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Values, E> {
                Ok(Values::One(Scalar(text.to_owned())))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Values, E> {
                Ok(Values::One(Scalar(number.to_string())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Values, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(Values::Several(values))
            }
        }
        deserializer.deserialize_any(OneOrSeveral)
    }
}
