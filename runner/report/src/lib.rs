//! What a run has to say for itself, as text. A function of the journal alone: nothing here looks at the machine.

pub mod campaign;
pub mod catalogue;
pub mod evidence;
pub mod explain;
pub mod html;
pub mod junit;
pub mod kernels;
pub mod mail;
pub mod recipe;
pub mod style;
pub mod summary;
pub mod verdict;

pub use style::Style;
