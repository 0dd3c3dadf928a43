//! A C library beside a kernel that needs a newer one than this machine has.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::error::KernelError;
use super::interpreter;
use super::store::replace;

/// The directory beside the image.
pub(super) const DIRECTORY: &str = "lib";

const LINKER: &str = "ld-linux-x86-64.so.2";

/// Asks a User Mode Linux for its release, which it prints without booting: that shows that it starts here.
///
/// # Errors
/// What it said instead.
pub(super) fn start(image: &Path) -> Result<String, KernelError> {
    let failed = |why: String| KernelError::DoesNotStart { image: image.to_owned(), why };
    let output = Command::new(image).arg("--version").output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(said.lines().next().unwrap_or("it says nothing").to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Takes the libraries out of an unpacked libc6.
///
/// # Errors
/// They are not there.
pub(super) fn take(unpacked: &Path, beside: &Path) -> Result<(), KernelError> {
    // Debian has moved them below usr/ since 13.
    let from = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"]
        .map(|place| unpacked.join(place))
        .into_iter()
        .find(|place| place.join(LINKER).exists())
        .ok_or_else(|| KernelError::NotInPackages { name: "libc6".to_owned(), what: LINKER.to_owned() })?;
    let to = beside.join(DIRECTORY);
    fs::create_dir(&to).map_err(KernelError::file("create", &to))?;
    for entry in fs::read_dir(&from).map_err(KernelError::file("read", &from))? {
        let path = entry.map_err(KernelError::file("read", &from))?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_file() && name.to_string_lossy().contains(".so") {
            // The linker may be a link, which would lead nowhere from here.
            fs::copy(&path, to.join(name)).map_err(KernelError::file("copy", &path))?;
        }
    }
    Ok(())
}

/// Has `image` use the libraries beside it, if there are some. The kernel reads the linker's path as it stands, so it is
/// written anew when the directory has moved.
///
/// # Errors
/// The image is not made so that this can be done, or cannot be written.
pub(super) fn settle(image: &Path) -> Result<(), KernelError> {
    let beside = image.parent().unwrap_or(Path::new(""));
    if !beside.join(DIRECTORY).is_dir() {
        return Ok(());
    }
    let linker = std::path::absolute(beside.join(DIRECTORY).join(LINKER))
        .map_err(KernelError::file("find", beside))?;
    let failed = |why: String| KernelError::DoesNotStart { image: image.to_owned(), why };
    let name = linker.to_str().ok_or_else(|| failed("its path is not UTF-8".to_owned()))?;
    let mut program = fs::read(image).map_err(KernelError::file("read", image))?;
    if interpreter::interpreter(&program) == Some(name.as_bytes()) {
        return Ok(());
    }
    let run_path = format!("$ORIGIN/{DIRECTORY}");
    interpreter::set(&mut program, name, &run_path).map_err(|error| failed(error.to_string()))?;
    replace(image, &program, 0o755, None).map_err(KernelError::file("write", image))
}
