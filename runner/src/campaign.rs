//! Campaigns: thousands of trials on as many rigs as there are processors, and what is kept of them.

mod bench;
mod desk;
pub(crate) mod directory;
mod engine;
mod merge;
mod progress;
mod screen;
mod world;

pub(crate) use engine::{Orders, run};
pub(crate) use merge::merge;
pub(crate) use progress::{Shown, as_float};
pub(crate) use world::{Here, Text, find};
