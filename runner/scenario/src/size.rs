//! A size on the command line, written as in a scenario.

use brim_trial::Bytes;

use crate::error::{Objection, ScenarioError};
use crate::quantity::{Dimension, Quantity};
use crate::written::Written;

/// Reads a size as a scenario writes it: `66 blocks`, `128 MiB`, `132096 B`.
///
/// # Errors
/// It is no size: the error says what would be one.
pub fn size(text: &str) -> Result<Bytes, ScenarioError> {
    let written = Written::setting(0, "", text);
    let quantity = Quantity::parse(&written).and_then(|quantity| {
        if quantity.unit.dimension == Dimension::Size {
            Ok(Bytes(quantity.value))
        } else {
            let message = format!("`{text}` is {}, not a size", quantity.unit.dimension.name());
            Err(Objection::new(written.whole(), message, "not a size").help(Dimension::Size.example()))
        }
    });
    quantity.map_err(|objection| ScenarioError::new(objection, "", "", &[(String::new(), text.to_owned())]))
}
