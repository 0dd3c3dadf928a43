//! The disks of a run by their names, and the block devices that they are here.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::Failure;
use crate::device::Device;

/// All disks of a run, in order. Steps share them.
#[derive(Debug, Default)]
pub(crate) struct Devices(RwLock<Vec<Slot>>);

#[derive(Debug)]
struct Slot {
    name: String,
    device: Presence,
}

#[derive(Debug)]
enum Presence {
    Here(Arc<Device>),
    /// It was taken away; what the kernel called it.
    Lost(String),
}

impl Devices {
    /// The disk `name` is this block device.
    pub(crate) fn attach(&self, name: &str, device: Device) {
        let device = Presence::Here(Arc::new(device));
        let mut slots = self.write();
        match slots.iter_mut().find(|slot| slot.name == name) {
            Some(slot) => slot.device = device,
            None => slots.push(Slot { name: name.to_owned(), device }),
        }
    }

    /// The block device of the disk `name`, or of the first disk.
    pub(crate) fn get(&self, name: Option<&str>) -> Result<Arc<Device>, Failure> {
        let slots = self.read();
        let slot = match name {
            Some(name) => slots.iter().find(|slot| slot.name == name),
            None => slots.first(),
        };
        let shown = name.or(slot.map(|slot| slot.name.as_str())).unwrap_or("disk");
        let what = || format!("work on the disk `{shown}`");
        match slot.map(|slot| &slot.device) {
            Some(Presence::Here(device)) => Ok(Arc::clone(device)),
            Some(Presence::Lost(_)) => Err(Failure::new(what(), "it was taken away").refused()),
            None => Err(Failure::new(what(), "it is not attached")),
        }
    }

    /// The block devices that are here, in order.
    pub(crate) fn here(&self) -> Vec<Arc<Device>> {
        let here = |slot: &Slot| match &slot.device {
            Presence::Here(device) => Some(Arc::clone(device)),
            Presence::Lost(_) => None,
        };
        self.read().iter().filter_map(here).collect()
    }

    /// The same with their names.
    pub(crate) fn named(&self) -> Vec<(String, Arc<Device>)> {
        let here = |slot: &Slot| match &slot.device {
            Presence::Here(device) => Some((slot.name.clone(), Arc::clone(device))),
            Presence::Lost(_) => None,
        };
        self.read().iter().filter_map(here).collect()
    }

    /// What the kernel calls or called each of them: `loop0`.
    pub(crate) fn kernel_names(&self) -> Vec<String> {
        let named = |slot: &Slot| match &slot.device {
            Presence::Here(device) => device.name().to_owned(),
            Presence::Lost(name) => name.clone(),
        };
        self.read().iter().map(named).collect()
    }

    /// Takes the disk `name` away for good. Nothing may have it mounted.
    pub(crate) fn lose(&self, name: &str) -> Result<(), Failure> {
        let what = || format!("take the disk `{name}` away");
        let mut slots = self.write();
        let slot = slots.iter_mut().find(|slot| slot.name == name);
        let slot = slot.ok_or_else(|| Failure::new(what(), "there is none"))?;
        let Presence::Here(device) = &slot.device else {
            let failure = Failure::new(what(), "it was taken away before").refused();
            return Err(failure
                .with_help("a disk is lost once in a trial: does the phase go round, as with `until`?"));
        };
        let lost = Presence::Lost(device.name().to_owned());
        let device = std::mem::replace(&mut slot.device, lost);
        device.detach(name)
    }

    /// Takes all of them away. The first failure is told, and the others are tried all the same.
    pub(crate) fn detach(&self) -> Result<(), Failure> {
        let slots = std::mem::take(&mut *self.write());
        let mut ended = Ok(());
        for slot in slots {
            ended = ended.and(slot.device.detach(&slot.name));
        }
        ended
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Slot>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Slot>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Presence {
    fn detach(self, name: &str) -> Result<(), Failure> {
        let Self::Here(device) = self else { return Ok(()) };
        let still = || Failure::new(format!("detach the disk `{name}`"), "a step still works on it");
        Arc::into_inner(device).ok_or_else(still)?.detach()
    }
}
