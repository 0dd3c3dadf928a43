//! Smaller sizes: of records and files, of the disk, and of what is free on it.

use std::collections::BTreeSet;

use brim_trial::operation::{Administration, Shared, Target};
use brim_trial::{BLOCK, Bytes, Expression, FileOperation, Operation, Plan};

use super::Search;

/// What the size of a disk is tried in.
const MIB: u64 = 1 << 20;

impl<E> Search<'_, E> {
    /// Each size that steps name, the same in all that name it, so that what belongs together stays together; the free blocks; the
    /// disk.
    pub(super) fn sizes(&mut self) -> Result<(), E> {
        while self.all_halved()? {}
        for size in sizes(&self.plan).into_iter().rev() {
            let mut size = size;
            while let Some(smaller) = self.smaller(size)? {
                size = smaller;
            }
        }
        while self.less_free()? {}
        while self.smaller_disk()? {}
        Ok(())
    }

    /// All sizes of steps and the free blocks at once, which keeps what they are to one another.
    fn all_halved(&mut self) -> Result<bool, E> {
        if sizes(&self.plan).into_iter().all(|size| size.0 <= 1) {
            return Ok(false);
        }
        self.with("all sizes halved", |plan| {
            for size in expressions(plan).flat_map(constants) {
                size.0 /= 2;
            }
            if let Some(free) = &mut plan.prepare.fill.data_free {
                free.0 = free.0 / 2 / BLOCK.0 * BLOCK.0;
            }
        })
    }

    /// A smaller size instead of `size`, where one does.
    fn smaller(&mut self, size: Bytes) -> Result<Option<Bytes>, E> {
        let down = |bytes: u64, unit: Bytes| bytes / unit.0 * unit.0;
        let candidates = [0, 1, BLOCK.0, down(size.0 / 2, BLOCK), down(size.0, BLOCK), size.0 / 2];
        let candidates: BTreeSet<u64> = candidates.into_iter().filter(|smaller| *smaller < size.0).collect();
        for smaller in candidates.into_iter().map(Bytes) {
            let took = self.with(&format!("{smaller} instead of {size}"), |plan| {
                for constant in expressions(plan).flat_map(constants).filter(|constant| **constant == size) {
                    *constant = smaller;
                }
            })?;
            if took {
                return Ok(Some(smaller));
            }
        }
        Ok(None)
    }

    fn less_free(&mut self) -> Result<bool, E> {
        let Some(free) = self.plan.prepare.fill.data_free else { return Ok(false) };
        let blocks = free.0 / BLOCK.0;
        for fewer in BTreeSet::from([0, blocks / 4, blocks / 2, blocks.saturating_sub(1)]) {
            let free = Some(Bytes(fewer * BLOCK.0));
            if fewer < blocks
                && self.with(&format!("{fewer} blocks free"), |plan| plan.prepare.fill.data_free = free)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All disks, each by the same part.
    fn smaller_disk(&mut self) -> Result<bool, E> {
        for part in [2, 4, 6, 7] {
            let smaller = |size: Bytes| Bytes((size.0 / 8 * part / MIB * MIB).max(MIB));
            let sizes: Vec<String> =
                self.plan.devices.iter().map(|device| smaller(device.size).to_string()).collect();
            if self.plan.devices.iter().any(|device| smaller(device.size) >= device.size) {
                continue;
            }
            let took = self.with(&format!("disks of {}", sizes.join(", ")), |plan| {
                for device in &mut plan.devices {
                    device.size = smaller(device.size);
                }
            })?;
            if took {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The sizes that steps name, each once.
fn sizes(plan: &Plan) -> BTreeSet<Bytes> {
    let mut plan = plan.clone();
    expressions(&mut plan).flat_map(constants).map(|size| *size).collect()
}

fn constants(expression: &mut Expression) -> Vec<&mut Bytes> {
    match expression {
        Expression::Size(size) => vec![size],
        Expression::Count(_) | Expression::Iteration | Expression::Copy => Vec::new(),
        Expression::Add(left, right)
        | Expression::Subtract(left, right)
        | Expression::Multiply(left, right) => {
            let mut sizes = constants(left);
            sizes.extend(constants(right));
            sizes
        }
    }
}

/// What steps work out: where, and how much.
fn expressions(plan: &mut Plan) -> impl Iterator<Item = &mut Expression> {
    let Plan { phases, prepare, .. } = plan;
    let steps = phases.iter_mut().flat_map(|phase| &mut phase.steps).chain(&mut prepare.steps);
    steps.flat_map(|step| of(&mut step.operation))
}

fn of_act(act: &mut Administration) -> Vec<&mut Expression> {
    match act {
        Administration::ResizeFilesystem { size, .. } => size.iter_mut().collect(),
        Administration::QgroupLimit { referenced, exclusive, .. } => {
            referenced.iter_mut().chain(exclusive.iter_mut()).collect()
        }
        Administration::DeviceAdd { .. }
        | Administration::DeviceRemove { .. }
        | Administration::DeviceReplace { .. }
        | Administration::LoseDevice { .. }
        | Administration::Balance { .. }
        | Administration::Defragment { .. }
        | Administration::Compress { .. }
        | Administration::QuotaEnable {}
        | Administration::QuotaRescan {}
        | Administration::SubvolumeDelete { .. }
        | Administration::WaitCleaner {}
        | Administration::Fstrim {} => Vec::new(),
    }
}

fn of_file(operation: &mut FileOperation) -> Vec<&mut Expression> {
    match operation {
        FileOperation::Fallocate { offset, length, .. }
        | FileOperation::Pwrite { offset, length, .. }
        | FileOperation::Pread { offset, length, .. }
        | FileOperation::MmapWrite { offset, length, .. }
        | FileOperation::MmapRead { offset, length, .. }
        | FileOperation::Msync { offset, length, .. }
        | FileOperation::SyncFileRange { offset, length, .. } => vec![offset, length],
        FileOperation::Reflink { range: Some(Shared { offset, length, to_offset }), .. }
        | FileOperation::Dedupe { range: Shared { offset, length, to_offset }, .. } => {
            vec![offset, length, to_offset]
        }
        FileOperation::Truncate { size, .. }
        | FileOperation::Setxattr { length: size, .. }
        | FileOperation::Symlink { target: Target::Length(size), .. } => vec![size],
        FileOperation::Reflink { range: None, .. }
        | FileOperation::Symlink { target: Target::Path(_), .. }
        | FileOperation::Fsync { .. }
        | FileOperation::Fdatasync { .. }
        | FileOperation::Open { .. }
        | FileOperation::Close { .. }
        | FileOperation::Tmpfile { .. }
        | FileOperation::Creat { .. }
        | FileOperation::Mkdir { .. }
        | FileOperation::Rmdir { .. }
        | FileOperation::Unlink { .. }
        | FileOperation::Rename { .. }
        | FileOperation::Link { .. }
        | FileOperation::Removexattr { .. }
        | FileOperation::Chmod { .. }
        | FileOperation::Nocow { .. }
        | FileOperation::Extents { .. }
        | FileOperation::Mkswap { .. }
        | FileOperation::Swapon { .. }
        | FileOperation::Swapoff { .. } => Vec::new(),
    }
}

fn of(operation: &mut Operation) -> Vec<&mut Expression> {
    match operation {
        Operation::File(operation) => of_file(operation),
        Operation::ResizeDisk { size, .. } => vec![size],
        Operation::Administer(act) => of_act(act),
        Operation::Syncfs {}
        | Operation::Subvolume { .. }
        | Operation::Snapshot { .. }
        | Operation::Scrub {}
        | Operation::DropCaches {}
        | Operation::Counters {}
        | Operation::Panic { .. }
        | Operation::Remount { .. }
        | Operation::Check {}
        | Operation::PowerCut { .. }
        | Operation::Freeze {}
        | Operation::Thaw {}
        | Operation::Exec { .. }
        | Operation::Sleep { .. }
        | Operation::Disk(_)
        | Operation::Await { .. }
        | Operation::AwaitCounter { .. }
        | Operation::AwaitLog { .. }
        | Operation::Arm { .. }
        | Operation::Release { .. }
        | Operation::Close { .. } => Vec::new(),
    }
}
