//! Starting User Mode Linux.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::guest;

/// A guest boots in a second; one of its tests attaches two hundred disks.
const LIMIT: Duration = Duration::from_secs(180);

/// A kernel that is a program, and its nbd driver.
#[derive(Clone, Debug)]
pub(crate) struct Uml {
    kernel: PathBuf,
    module: PathBuf,
}

impl Uml {
    /// The kernel that `BRIM_TEST_UML` names, or Debian's; what is missing otherwise.
    pub(crate) fn find() -> Result<Self, String> {
        let kernel =
            std::env::var_os("BRIM_TEST_UML").map_or_else(|| "/usr/bin/linux.uml".into(), PathBuf::from);
        if !kernel.is_file() {
            return Err(format!("{} (Debian: user-mode-linux)", kernel.display()));
        }
        // Beside the kernel, or where Debian has the modules of each release.
        let directory = kernel.parent().unwrap_or(Path::new("/"));
        let releases = directory.join("../lib/uml/modules");
        let places = fs::read_dir(&releases).into_iter().flatten().flatten().map(|release| release.path());
        let mut modules =
            places.chain([directory.join("modules")]).map(|place| place.join("kernel/drivers/block/nbd.ko"));
        let module = modules
            .find(|module| module.is_file())
            .ok_or_else(|| format!("nbd.ko for {}", kernel.display()))?;
        Ok(Self { kernel, module })
    }

    /// Runs one test in a guest of its own.
    pub(crate) fn run(&self, case: &str) -> Result<(), String> {
        let directory = tempfile::tempdir().unwrap();
        let console = directory.path().join("console");
        let ended = self.start(case, directory.path(), &console).and_then(wait);
        let said = fs::read_to_string(&console).unwrap_or_default();
        match ended {
            Ok(()) if said.lines().any(|line| line.trim_end() == guest::PASSED) => Ok(()),
            Ok(()) => Err(said),
            Err(error) => Err(format!("{error}\n{said}")),
        }
    }

    fn start(&self, case: &str, directory: &Path, console: &Path) -> std::io::Result<Child> {
        let console = File::create(console)?;
        let init = std::env::current_exe()?;
        let mut command = Command::new(&self.kernel);
        command.args([
            "mem=256M",
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
            "con=null",
            "con0=fd:0,fd:1",
            "quiet",
        ]);
        // Measuring which RAID 6 code is fastest takes longer than all the rest of a boot.
        command.args(["initcall_blacklist=raid6_select_algo,raid6_init", "panic=-1"]);
        command.arg(format!("uml_dir={}/", directory.display())).arg(format!("init={}", init.display()));
        if let Ok(seconds) = std::env::var(guest::HOLD) {
            // What a kernel does not know is in the environment of its process 1.
            command.arg(format!("{}={seconds}", guest::HOLD));
        }
        command.arg("--").args([guest::INIT, &self.module.display().to_string(), case]);
        command.stdin(Stdio::null()).stderr(console.try_clone()?).stdout(console).env("TMPDIR", directory);
        // The guest's processes are processes here: they end together.
        command.process_group(0).spawn()
    }
}

fn wait(mut child: Child) -> std::io::Result<()> {
    let until = Instant::now() + LIMIT;
    while child.try_wait()?.is_none() {
        if Instant::now() >= until {
            let group =
                i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process has a number");
            rustix::process::kill_process_group(group, Signal::KILL)?;
            child.wait()?;
            return Err(std::io::Error::other(format!(
                "the guest had not ended after {} s",
                LIMIT.as_secs()
            )));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
