//! The vmlinux in a bzImage, unpacked once.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use super::bzimage;
use super::error::KernelError;
use super::image::has_pvh_entry;
use super::store::{self, Store, replace};

/// See [`super::Kernel::vmlinux`].
pub(super) fn of(image: &Path) -> Result<Option<PathBuf>, KernelError> {
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    let place = place(image)?;
    let image_modified = modified(image).map_err(KernelError::file("read", image))?;
    // It bears the time of its image, so that another build at the same path is unpacked again.
    if modified(&place).is_ok_and(|time| time == image_modified) {
        return Ok(Some(place));
    }
    let bytes = fs::read(image).map_err(KernelError::file("read", image))?;
    let Some(header) = bzimage::Header::of(&bytes) else {
        return Ok(has_pvh_entry(&bytes).then(|| image.to_owned()));
    };
    let damaged = |why: String| KernelError::Packed { path: image.to_owned(), why };
    let vmlinux = header.vmlinux().map_err(|error| damaged(error.to_string()))?;
    if !has_pvh_entry(&vmlinux) {
        return Ok(None);
    }
    replace(&place, &vmlinux, 0o644, Some(image_modified)).map_err(KernelError::file("write", &place))?;
    Ok(Some(place))
}

/// Beside an image that is kept; for others one place for each path, as a user who bisects builds many at the same.
fn place(image: &Path) -> Result<PathBuf, KernelError> {
    let beside = image.with_file_name("vmlinux");
    if image.with_file_name(store::ABOUT).is_file() {
        return Ok(beside);
    }
    let mut hasher = DefaultHasher::new();
    image.hash(&mut hasher);
    Ok(Store::open()?.root().join(".vmlinux").join(format!("{:016x}", hasher.finish())))
}
