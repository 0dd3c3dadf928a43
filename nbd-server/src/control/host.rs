//! What a control socket needs of whoever has put a disk under a kernel: a size that the kernel is told, and regions that the
//! filesystem on it knows.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use brim_device::control::{Answer, Refusal, Region};
use brim_device::fault::Row;
use brim_device::{ByteRange, Bytes};

use super::orders::Place;
use crate::lock;

/// Who has put a disk under a kernel.
pub trait Host: Debug + Send + Sync {
    /// The disk has another size by now: has the kernel see it.
    ///
    /// # Errors
    ///
    /// Why the kernel does not know.
    fn resized(&self, size: Bytes) -> Result<(), String>;

    /// The bytes of a region as the filesystem has it at this moment.
    ///
    /// # Errors
    ///
    /// Why they are not known.
    fn region(&self, name: &str) -> Result<Vec<ByteRange>, String>;
}

/// The host of a server, where it has one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot(Arc<Mutex<Option<Arc<dyn Host>>>>);

impl Slot {
    pub(crate) fn set(&self, host: Arc<dyn Host>) {
        *lock(&self.0) = Some(host);
    }

    fn get(&self) -> Option<Arc<dyn Host>> {
        lock(&self.0).clone()
    }
}

impl Place<'_> {
    /// Looks for a region, defines it, and shows it.
    pub(super) fn find_region(&self, name: String) -> Result<Answer, Refusal> {
        let host = self.door.host().get().ok_or_else(|| {
            Refusal::new(format!("nobody here knows where {name:?} is: the server has no filesystem"))
                .hint("say which bytes it is: `brim ctl region NAME OFFSET+LENGTH`")
        })?;
        let ranges = host.region(&name).map_err(Refusal::new)?;
        self.disk().set_region(&name, ranges.clone());
        Ok(Answer::Regions(vec![Region { name, ranges }]))
    }

    /// Defines the region that a row names, where nobody has yet and the filesystem knows it.
    pub(super) fn define_region_of(&self, row: &Row) -> Result<(), Refusal> {
        let Some(name) = &row.when.region else { return Ok(()) };
        let is_defined = self.disk().regions().iter().any(|(region, _)| region == name);
        if is_defined || self.door.host().get().is_none() {
            return Ok(());
        }
        self.find_region(name.clone()).map(drop)
    }

    /// Tells the kernel which size the disk has, if that is another than before.
    pub(super) fn tell_size(&self, before: Bytes) -> Result<Answer, Refusal> {
        let size = self.disk().size();
        let told = match self.door.host().get() {
            Some(host) if size != before => host.resized(size),
            _ => Ok(()),
        };
        let refused = |why| Refusal::new(format!("it is done, but the kernel was not told: {why}"));
        told.map(|()| Answer::Done).map_err(refused)
    }
}
