//! A campaign as an array job of a real Slurm: controller, node daemon and authentication of its own, all in one directory.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Test;
use crate::bench::{brim, project};
use crate::campaign::Campaign;
use crate::needs::Need;

const SLURM: &[Need] = &[
    Need::Rig,
    Need::Filesystem("btrfs"),
    Need::Tracefs,
    Need::Tool("slurmctld"),
    Need::Tool("slurmd"),
    Need::Tool("sbatch"),
    Need::Tool("munged"),
];

pub(crate) fn tests() -> Vec<Test> {
    vec![("four_tasks_of_slurm_and_a_merge_are_one_run", SLURM, four_tasks)]
}

/// The daemons, which end with the test.
struct Slurm(Vec<Child>);

impl Drop for Slurm {
    fn drop(&mut self) {
        for child in self.0.iter_mut().rev() {
            // It may have ended by itself, which the test has found out then.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Slurm {
    fn start(directory: &Path) -> Self {
        let here = directory.display();
        for name in ["munge", "state", "spool"] {
            fs::create_dir(directory.join(name)).unwrap();
        }
        let node = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let node = node.trim().split('.').next().unwrap();
        // Any that are free: several tests may run on one machine.
        let ports = [0, 0].map(|any| std::net::TcpListener::bind(("127.0.0.1", any)).unwrap());
        let [controller, daemon] = ports.map(|listener| listener.local_addr().unwrap().port());
        let config = format!(
            "ClusterName=brim\nSlurmctldHost={node}(127.0.0.1)\nSlurmUser=root\nSlurmdUser=root\n\
             AuthType=auth/munge\nAuthInfo=socket={here}/munge/socket\nCredType=cred/munge\n\
             SlurmctldPort={controller}\nSlurmdPort={daemon}\nStateSaveLocation={here}/state\nSlurmdSpoolDir={here}/spool\n\
             SlurmctldPidFile={here}/slurmctld.pid\nSlurmdPidFile={here}/slurmd.pid\n\
             SlurmctldLogFile={here}/slurmctld.log\nSlurmdLogFile={here}/slurmd.log\n\
             ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nJobAcctGatherType=jobacct_gather/none\n\
             SelectType=select/cons_tres\nSelectTypeParameters=CR_CPU\nMpiDefault=none\nReturnToService=2\n\
             NodeName={node} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN\n\
             PartitionName=all Nodes={node} Default=YES MaxTime=INFINITE State=UP\n\
             SlurmdParameters=config_overrides\n"
        );
        fs::write(directory.join("slurm.conf"), config).unwrap();
        let key: Vec<u8> = (0..=255).cycle().take(1024).collect();
        fs::write(directory.join("munge/key"), key).unwrap();
        let private = |name: &str| {
            let path = directory.join(name);
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        };
        private("munge");
        private("munge/key");
        let spawn = |program: &str, words: &[String]| {
            let log = fs::File::create(directory.join(format!("{program}.out"))).unwrap();
            let path = format!("/usr/sbin:/sbin:{}", std::env::var("PATH").unwrap());
            let mut command = Command::new(program);
            command.args(words).env("PATH", path).env("SLURM_CONF", directory.join("slurm.conf"));
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
        };
        let munge = |name: &str, file: &str| format!("--{name}={here}/munge/{file}");
        let munged = [
            "--foreground".to_owned(),
            "--force".to_owned(),
            munge("socket", "socket"),
            munge("key-file", "key"),
            munge("log-file", "log"),
            munge("pid-file", "pid"),
            munge("seed-file", "seed"),
        ];
        let mut slurm = Self(vec![spawn("munged", &munged)]);
        until("munged", || directory.join("munge/socket").exists());
        let foreground = ["-D".to_owned(), "-f".to_owned(), format!("{here}/slurm.conf")];
        slurm.0.push(spawn("slurmctld", &foreground));
        slurm.0.push(spawn("slurmd", &foreground));
        until("slurmd", || {
            let idle = Command::new("sinfo")
                .args(["-h", "-t", "idle"])
                .env("SLURM_CONF", directory.join("slurm.conf"))
                .output();
            idle.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("idle"))
        });
        slurm
    }
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < limit, "{what} does not come up");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn four_tasks() {
    let rest = "[[sweep]]\nscenario = \"btrfs/fallocate-then-pwrite\"\n\
        params = { free = \"62..69 blocks\", record = [\"132096 B\", \"100000 B\"] }\nstop = { trials = 2 }";
    let campaign = Campaign::new(rest);
    let directory = tempfile::Builder::new().prefix("slurm-").tempdir().unwrap();
    let _slurm = Slurm::start(directory.path());
    let results = campaign.path("results");
    fs::create_dir(&results).unwrap();
    let submitted = Command::new("sbatch")
        .args(["--wait", "--output", &format!("{}/%a.txt", results.display())])
        .arg(project().join("configs/campaign-engines/slurm.sbatch"))
        .args([campaign.file(), results.display().to_string()])
        .env("SLURM_CONF", directory.path().join("slurm.conf"))
        .env("BRIM", env!("CARGO_BIN_EXE_brim"))
        .current_dir(project())
        .output()
        .unwrap();
    let said = || {
        let tasks =
            (1..=4).map(|task| fs::read_to_string(results.join(format!("{task}.txt"))).unwrap_or_default());
        format!("{submitted:?}\n{}", tasks.collect::<String>())
    };
    assert!(submitted.status.success(), "{}", said());
    let mut words =
        vec!["campaign".to_owned(), "merge".to_owned(), campaign.path("merged").display().to_string()];
    words.extend((1..=4).map(|task| results.join(format!("shard-{task}")).display().to_string()));
    let merged = brim(&words).output().unwrap();
    assert!(merged.status.success(), "{merged:?}\n{}", said());
    campaign.run("whole", &[]);
    let read = |name: &str| fs::read_to_string(campaign.path(name).join("result.json")).unwrap();
    assert_eq!(read("merged"), read("whole"));
}
