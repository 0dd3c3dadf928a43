//! The subcommands, one file each.

pub(crate) mod bundle;
pub(crate) mod campaign;
pub(crate) mod catalogue;
pub(crate) mod compare;
pub(crate) mod ctl;
pub(crate) mod doctor;
pub(crate) mod exec;
pub(crate) mod kernel;
pub(crate) mod log;
pub(crate) mod report;
pub(crate) mod rerun;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod shrink;
