//! Operations on the filesystem as a whole, for which it is unmounted, and on the machine's caches.

use brim_trial::event::Problem;
use brim_trial::{Errno, Survival};

use super::{Outcome, Steps};
use crate::Failure;
use crate::failure::Trying;
use crate::guest;
use crate::protocol::{Answer, Ask};

/// Panics the kernel in the trial `wanted`, or in any; in others it does nothing. A host is not for that.
pub(super) fn panic_in(wanted: Option<u64>, trial: u32) -> Result<Outcome, Failure> {
    let what = || "panic the kernel".to_owned();
    if !guest::is_here() {
        let failure = Failure::new(what(), "this kernel is the host's");
        return Err(failure.refused().with_help("run it in a guest: `brim run … --kernel uml/6.12`"));
    }
    if wanted.is_none_or(|wanted| wanted == u64::from(trial)) {
        // Documentation/admin-guide/sysrq.rst, v6.12: `c` crashes the kernel.
        std::fs::write("/proc/sysrq-trigger", "c").trying(what)?;
    }
    Ok(Outcome::new("sysrq", Ok(0)))
}

/// Drops what the machine has cached and could read again.
pub(super) fn drop_caches() -> Result<Outcome, Failure> {
    // Documentation/admin-guide/sysctl/vm.rst: 1 for the page cache, 2 for dentries and inodes, 3 for both.
    let path = "/proc/sys/vm/drop_caches";
    std::fs::write(path, "3").trying(|| format!("write {path}"))?;
    Ok(Outcome::new("write", Ok(0)))
}

impl Steps<'_> {
    pub(super) fn remount(self, options: Option<&[String]>, live: bool) -> Result<Outcome, Failure> {
        if live {
            let remounted = self.site.remount_live(options.unwrap_or_default())?;
            return Ok(Outcome::new("mount", remounted.map(|()| 0)));
        }
        let ((), mounted) = self.site.without_mount(|place| {
            if let Some(options) = options {
                place.set_options(options);
            }
            Ok(())
        })?;
        Ok(after_mount(mounted))
    }

    pub(super) fn check(self) -> Result<Outcome, Failure> {
        let (said, mounted) = self.site.without_mount(|place| {
            // The checker reads the devices by way of their caches.
            self.devices.here().iter().try_for_each(|device| device.forget_cache())?;
            place.check()
        })?;
        let problem = said.map(Problem::Unclean);
        let syscall = if mounted.is_err() { "mount" } else { "check" };
        Ok(Outcome { syscall, problem, ..after_mount(mounted) })
    }

    pub(super) fn power_cut(self, survival: Survival, seed: u64) -> Result<Outcome, Failure> {
        // A mounted filesystem cannot be stopped from writing: it writes to a disk that nobody will see again.
        self.word(Ask::CutPower)?;
        let (lost, mounted) = self.site.without_mount(|_| {
            let lost = match self.word(Ask::RestorePower { survival, seed })? {
                Answer::Lost(lost) => lost.0,
                _ => 0,
            };
            for device in self.devices.here() {
                device.forget()?;
                device.forget_cache()?;
            }
            Ok(lost)
        })?;
        Ok(Outcome { result: mounted.map(|()| lost), ..after_mount(mounted) })
    }
}

pub(super) fn after_mount(mounted: Result<(), Errno>) -> Outcome {
    Outcome { result: mounted.map(|()| 0), ..Outcome::new("mount", Ok(0)) }
}
