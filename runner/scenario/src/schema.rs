//! The keys of a scenario file, as they are written. What the values mean is checked elsewhere.

pub(crate) mod administration;
pub(crate) mod condition;
pub(crate) mod device;
pub(crate) mod disk;
pub(crate) mod fault;
pub(crate) mod file;

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

pub(crate) use condition::Reproduced;
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
    pub(crate) why: Option<Text>,
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
    pub(crate) reproduced: Spanned<Vec<Spanned<Table<Reproduced>>>>,
    pub(crate) control: Option<Spanned<Table<Control>>>,
    #[serde(default)]
    pub(crate) known: Vec<Spanned<Table<Known>>>,
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
    #[serde(default, rename = "worker")]
    pub(crate) workers: Vec<Table<Worker>>,
}

/// How a worker goes round by itself.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Worker {
    pub(crate) name: Text,
    pub(crate) until: Option<Text>,
    pub(crate) times: Option<Spanned<Scalar>>,
    #[serde(rename = "while")]
    pub(crate) beside: Option<Text>,
    pub(crate) copies: Option<Spanned<Scalar>>,
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
    pub(crate) sleep: Option<Spanned<Formula>>,
    pub(crate) name: Option<Text>,
    #[serde(default)]
    pub(crate) allow: fault::Words,
    pub(crate) only: Option<Text>,
}

/// What a step that only the control has is called.
pub(crate) fn step_words(step: &Step) -> String {
    let called = step.name.as_ref().map(|name| format!("the step \"{}\"", name.get_ref()));
    let release = |release: &Spanned<fault::Worded<Release>>| match release.get_ref() {
        fault::Worded::Word(gate) => format!("the release of \"{gate}\""),
        fault::Worded::Table(table) => format!("the release of \"{}\"", table.gate.get_ref()),
    };
    called
        .or_else(|| step.verb.as_ref().map(|verb| format!("the step `{}`", verb.get_ref().name())))
        .or_else(|| step.release.as_ref().map(release))
        .or_else(|| step.arm.as_ref().map(|fault| format!("\"{}\" in force", fault.get_ref())))
        .unwrap_or_else(|| "a step".to_owned())
}

/// The smallest change that makes the verdict another.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Control {
    pub(crate) change: Text,
    #[serde(default)]
    pub(crate) params: ParamTable,
    #[serde(default)]
    pub(crate) without_fault: Vec<Text>,
    #[serde(default)]
    pub(crate) without_step: Vec<Text>,
    pub(crate) mkfs: Option<Vec<Text>>,
    pub(crate) mount: Option<Vec<Text>>,
    #[serde(default, rename = "fault")]
    pub(crate) faults: Vec<Table<Fault>>,
    pub(crate) verdict: Option<Text>,
    pub(crate) kernel: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Await {
    pub(crate) held: Option<Spanned<Held>>,
    pub(crate) counter: Option<Text>,
    pub(crate) is: Option<Spanned<condition::Amount>>,
    pub(crate) at_least: Option<Spanned<Scalar>>,
    pub(crate) at_most: Option<Spanned<Scalar>>,
    pub(crate) kernel_log: Option<Text>,
    pub(crate) count: Option<Spanned<Scalar>>,
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
    Fallocate(Table<file::Fallocate>),
    Pwrite(Table<file::Pwrite>),
    Pread(Table<file::Pread>),
    MmapWrite(Table<file::MmapWrite>),
    MmapRead(Table<file::MmapRead>),
    Msync(Table<file::Range>),
    Fsync(Table<file::OneFile>),
    Fdatasync(Table<file::OneFile>),
    SyncFileRange(Table<file::Range>),
    Syncfs(Table<Nothing>),
    Truncate(Table<file::Truncate>),
    Open(Table<file::Open>),
    Close(Table<file::OneFile>),
    Tmpfile(Table<file::OneFile>),
    Creat(Table<file::OneFile>),
    Mkdir(Table<file::OnePath>),
    Rmdir(Table<file::OnePath>),
    Unlink(Table<file::Unlink>),
    Rename(Table<file::Rename>),
    Link(Table<file::Link>),
    Symlink(Table<file::Symlink>),
    Setxattr(Table<file::Setxattr>),
    Removexattr(Table<file::Removexattr>),
    Chmod(Table<file::Chmod>),
    Nocow(Table<file::OneFile>),
    Reflink(Table<file::Reflink>),
    Dedupe(Table<file::Dedupe>),
    Extents(Table<file::Extents>),
    Mkswap(Table<file::OneFile>),
    Swapon(Table<file::OneFile>),
    Swapoff(Table<file::OneFile>),
    ResizeDisk(Table<administration::ResizeDisk>),
    Subvolume(Table<Subvolume>),
    Snapshot(Table<Snapshot>),
    Scrub(Table<Nothing>),
    DropCaches(Table<Nothing>),
    Counters(Table<Nothing>),
    Panic(Table<Panic>),
    Remount(Table<administration::Remount>),
    Check(Table<Nothing>),
    PowerCut(Table<PowerCut>),
    Freeze(Table<Nothing>),
    Thaw(Table<Nothing>),
    Exec(Table<Exec>),
    Mark(Table<disk::Mark>),
    KeepSnapshot(Table<disk::Named>),
    RestoreSnapshot(Table<disk::Named>),
    SetPool(Spanned<Table<disk::Pool>>),
    RemovePool(Table<disk::OnDevice>),
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

impl Verb {
    /// As it is written.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Fallocate(_) => "fallocate",
            Self::Pwrite(_) => "pwrite",
            Self::Pread(_) => "pread",
            Self::MmapWrite(_) => "mmap_write",
            Self::MmapRead(_) => "mmap_read",
            Self::Msync(_) => "msync",
            Self::Fsync(_) => "fsync",
            Self::Fdatasync(_) => "fdatasync",
            Self::SyncFileRange(_) => "sync_file_range",
            Self::Syncfs(_) => "syncfs",
            Self::Truncate(_) => "truncate",
            Self::Open(_) => "open",
            Self::Close(_) => "close",
            Self::Tmpfile(_) => "tmpfile",
            Self::Creat(_) => "creat",
            Self::Mkdir(_) => "mkdir",
            Self::Rmdir(_) => "rmdir",
            Self::Unlink(_) => "unlink",
            Self::Rename(_) => "rename",
            Self::Link(_) => "link",
            Self::Symlink(_) => "symlink",
            Self::Setxattr(_) => "setxattr",
            Self::Removexattr(_) => "removexattr",
            Self::Chmod(_) => "chmod",
            Self::Nocow(_) => "nocow",
            Self::Reflink(_) => "reflink",
            Self::Dedupe(_) => "dedupe",
            Self::Extents(_) => "extents",
            Self::Mkswap(_) => "mkswap",
            Self::Swapon(_) => "swapon",
            Self::Swapoff(_) => "swapoff",
            Self::ResizeDisk(_) => "resize_disk",
            Self::Subvolume(_) => "subvolume",
            Self::Snapshot(_) => "snapshot",
            Self::Scrub(_) => "scrub",
            Self::DropCaches(_) => "drop_caches",
            Self::Counters(_) => "counters",
            Self::Panic(_) => "panic",
            Self::Remount(_) => "remount",
            Self::Check(_) => "check",
            Self::PowerCut(_) => "power_cut",
            Self::Freeze(_) => "freeze",
            Self::Thaw(_) => "thaw",
            Self::Exec(_) => "exec",
            Self::Mark(_) => "mark",
            Self::KeepSnapshot(_) => "keep_snapshot",
            Self::RestoreSnapshot(_) => "restore_snapshot",
            Self::SetPool(_) => "set_pool",
            Self::RemovePool(_) => "remove_pool",
            Self::DeviceAdd(_) => "device_add",
            Self::DeviceRemove(_) => "device_remove",
            Self::DeviceReplace(_) => "device_replace",
            Self::LoseDevice(_) => "lose_device",
            Self::Balance(_) => "balance",
            Self::ResizeFilesystem(_) => "resize_filesystem",
            Self::Defragment(_) => "defragment",
            Self::Compress(_) => "compress",
            Self::QuotaEnable(_) => "quota_enable",
            Self::QuotaRescan(_) => "quota_rescan",
            Self::QgroupLimit(_) => "qgroup_limit",
            Self::SubvolumeDelete(_) => "subvolume_delete",
            Self::WaitCleaner(_) => "wait_cleaner",
            Self::Fstrim(_) => "fstrim",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exec {
    pub(crate) command: Spanned<Vec<Text>>,
    pub(crate) exit: Option<Spanned<Scalar>>,
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
pub(crate) struct Nothing {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PowerCut {
    pub(crate) kept: Option<Spanned<fault::Number>>,
    pub(crate) torn: Option<Spanned<fault::Number>>,
    #[serde(default)]
    pub(crate) arm: fault::Words,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Known {
    pub(crate) filesystem: Option<Text>,
    pub(crate) kernel: Option<Text>,
    pub(crate) params: Option<BTreeMap<Spanned<String>, Spanned<Values>>>,
    pub(crate) verdict: Option<Text>,
    pub(crate) rate: Option<Spanned<Table<Rate>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rate {
    pub(crate) at_least: Spanned<fault::Number>,
    pub(crate) at_most: Spanned<fault::Number>,
    pub(crate) why: Text,
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
    Worker => "a table such as `{ name = \"writer\", times = 100 }`",
    Step => "a table such as `{ do.fsync = { file = \"blob\" } }`",
    Panic => "a table such as `{ trial = 5 }`, or `{}`",
    Release => "the name of a `[[fault]]`, or a table such as `{ gate = \"GATE\", first = 2 }`",
    Await => "a table such as `{ held = \"GATE\" }` or `{ counter = \"data.may_use\", is = \"0 B\" }`",
    Exec => "a table such as `{ command = [\"cp\", \"blob\", \"copy\"] }`",
    Subvolume => "a table such as `{ path = \"subvol\" }`",
    Snapshot => "a table such as `{ of = \"subvol\", to = \"snap\" }`",
    Nothing => "an empty table: `{}`",
    PowerCut => "a table such as `{}`, or `{ kept = \"50 %\", torn = \"10 %\" }`",
    Known => "a table with `verdict` or `rate`",
    Rate => "a table such as `{ at_least = \"2 %\", at_most = \"10 %\", why = \"…\" }`",
    Control => "a table with `change`, and what it changes",
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
#[derive(Clone, Debug)]
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
