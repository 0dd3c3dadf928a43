//! The keys of `[device]` and `[[device]]`.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

use super::{Formula, Table, Text};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Device {
    pub(crate) name: Option<Text>,
    pub(crate) size: Spanned<Formula>,
    #[serde(default)]
    pub(crate) write_cache: bool,
    pub(crate) in_filesystem: Option<Spanned<bool>>,
}

super::shapes! {
    Device => "a table such as `{ size = \"128 MiB\" }`",
}

/// One disk, or several.
#[derive(Debug)]
pub(crate) enum Devices {
    One(Table<Device>),
    Several(Vec<Spanned<Table<Device>>>),
}

impl<'de> Deserialize<'de> for Devices {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrSeveral;
        impl<'de> Visitor<'de> for OneOrSeveral {
            type Value = Devices;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table such as `{ size = \"128 MiB\" }`, or several as `[[device]]`")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Devices, A::Error> {
                Table::deserialize(MapAccessDeserializer::new(map)).map(Devices::One)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Devices, A::Error> {
                let mut devices = Vec::new();
                while let Some(device) = list.next_element()? {
                    devices.push(device);
                }
                Ok(Devices::Several(devices))
            }
        }
        deserializer.deserialize_any(OneOrSeveral)
    }
}
