//! A size or a duration on the command line, written as in a scenario.

use brim_device::Nanos;
use brim_trial::Bytes;

use crate::error::{Objection, ScenarioError};
use crate::quantity::{Dimension, Quantity};
use crate::written::Written;

/// Reads a size as a scenario writes it: `66 blocks`, `128 MiB`, `132096 B`.
///
/// # Errors
/// It is no size: the error says what would be one.
pub fn size(text: &str) -> Result<Bytes, ScenarioError> {
    quantity(text, Dimension::Size).map(Bytes)
}

/// Reads a duration as a scenario writes it: `10 ms`, `30s`.
///
/// # Errors
/// It is no duration: the error says what would be one.
pub fn duration(text: &str) -> Result<Nanos, ScenarioError> {
    quantity(text, Dimension::Duration).map(Nanos)
}

fn quantity(text: &str, dimension: Dimension) -> Result<u64, ScenarioError> {
    let written = Written::setting(0, "", text);
    let quantity = Quantity::parse(&written).and_then(|quantity| {
        if quantity.unit.dimension == dimension {
            Ok(quantity.value)
        } else {
            let (found, wanted) = (quantity.unit.dimension.name(), dimension.name());
            let message = format!("`{text}` is {found}, not {wanted}");
            let label = format!("not {wanted}");
            Err(Objection::new(written.whole(), message, label).help(dimension.example()))
        }
    });
    quantity.map_err(|objection| ScenarioError::new(objection, "", "", &[(String::new(), text.to_owned())]))
}
