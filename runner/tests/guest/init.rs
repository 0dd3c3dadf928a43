//! Process 1 of a guest in tests: loads the modules it finds, then answers on the port `brim.agent`. Each line comes back as it
//! went, but for `panic`, `hang`, `off`, `reboot`, and `disk`, which tries the first virtio-blk disk.
//!
//! A program of this one file, for `rustc` alone: it is compiled static when a test wants it.

use std::ffi::{CStr, c_char, c_int, c_long, c_ulong, c_void};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

unsafe extern "C" {
    fn mount(s: *const c_char, t: *const c_char, k: *const c_char, f: c_ulong, d: *const c_void) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn reboot(how: c_int) -> c_int;
}

// arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/linux/reboot.h, v6.12.
const FINIT_MODULE: c_long = 313;
// include/uapi/linux/module.h, v6.12: MODULE_INIT_COMPRESSED_FILE.
const COMPRESSED: c_int = 4;
const POWER_OFF: c_int = 0x4321_fedc;
const RESTART: c_int = 0x0123_4567;

fn main() {
    for (kind, target) in [(c"devtmpfs", c"/dev"), (c"proc", c"/proc"), (c"sysfs", c"/sys")] {
        mount_at(kind, target);
    }
    load_modules();
    let port = port();
    let mut answers = &port;
    writeln!(answers, "ready").unwrap();
    for line in BufReader::new(&port).lines().map_while(Result::ok) {
        match line.as_str() {
            "panic" => fs::write("/proc/sysrq-trigger", "c").unwrap(),
            "off" => end(POWER_OFF),
            "reboot" => end(RESTART),
            "hang" => sleep(Duration::MAX),
            "disk" => writeln!(answers, "{}", disk()).unwrap(),
            _ => writeln!(answers, "{line}").unwrap(),
        }
    }
}

fn mount_at(kind: &CStr, target: &CStr) {
    let _ = fs::create_dir(target.to_str().unwrap());
    // SAFETY: strings that end with a nul, and no data.
    unsafe { mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
}

fn load_modules() {
    let Ok(directory) = fs::read_dir("/modules") else { return };
    let mut modules: Vec<_> = directory.flatten().map(|entry| entry.path()).collect();
    modules.sort();
    for module in modules {
        let file = File::open(&module).unwrap();
        let flags = if module.extension().is_some_and(|extension| extension == "ko") { 0 } else { COMPRESSED };
        // SAFETY: an open descriptor, a string that ends with a nul, a number.
        if unsafe { syscall(FINIT_MODULE, file.as_raw_fd(), c"".as_ptr(), flags) } < 0 {
            println!("{} cannot be loaded: {}", module.display(), std::io::Error::last_os_error());
        }
    }
}

/// The port, which is there a moment after its driver.
fn port() -> File {
    loop {
        for entry in fs::read_dir("/sys/class/virtio-ports").into_iter().flatten().flatten() {
            let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            if name.trim() == "brim.agent" {
                let device = Path::new("/dev").join(entry.file_name());
                return OpenOptions::new().read(true).write(true).open(device).unwrap();
            }
        }
        sleep(Duration::from_millis(5));
    }
}

/// Writes the first block and has it flushed. Says what went wrong, or `done`.
fn disk() -> String {
    let done = || -> std::io::Result<()> {
        let disk = OpenOptions::new().read(true).write(true).open("/dev/vda")?;
        disk.write_all_at(&[0xb1; 4096], 0)?;
        disk.sync_all()
    };
    done().map_or_else(|error| error.to_string(), |()| "done".to_owned())
}

fn end(how: c_int) {
    // SAFETY: a number.
    unsafe { reboot(how) };
}
