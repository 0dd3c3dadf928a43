//! A machine saved at one moment, to start others from.
//!
//! The guest's memory is not written: it is a file already, and the devices' state is less than a MiB. Each machine that is
//! resumed maps the memory and copies a page when it writes to it, so that several share what none of them has changed.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

#[cfg(test)]
use brim_trial::Bytes;
use serde_json::{Value, json};

use super::arguments::{Beginning, Hardware};
use super::machine::set_up;
use super::qmp::QmpError;
use super::{Machine, MachineError};

/// How long a save or a resume may take. It is a matter of milliseconds, but for a disk whose requests are held: a machine
/// stops when they are done.
const LIMIT: Duration = Duration::from_secs(30);
/// The name under which QEMU knows the socket of the state.
const STATE: &str = "state";

/// A machine's whole state. It lives in memory, and as long as this value.
#[derive(Debug)]
pub(crate) struct Snapshot {
    memory: File,
    devices: Vec<u8>,
    hardware: Hardware,
}

impl Snapshot {
    #[cfg(test)]
    /// What it takes of this host's memory. Of the guest's, that is what the guest has touched.
    pub(crate) fn size(&self) -> Bytes {
        let blocks = rustix::fs::fstat(&self.memory).map_or(0, |status| status.st_blocks);
        let devices = u64::try_from(self.devices.len()).unwrap_or(u64::MAX);
        // st_blocks counts 512 bytes each, whatever the filesystem's own blocks are (stat(2)).
        Bytes(u64::try_from(blocks).unwrap_or(0).saturating_mul(512).saturating_add(devices))
    }
}

impl Machine {
    /// Stops the guest and keeps its whole state; the machine is over then. Nothing may be under way on the channel, and no
    /// request of the disk's may be held.
    ///
    /// # Errors
    /// QEMU ended, or could not save.
    pub(crate) fn save(mut self) -> Result<Snapshot, MachineError> {
        let devices = self.devices().map_err(|error| self.told(error))?;
        let memory = self.memory.try_clone().map_err(set_up("the guest's memory"))?;
        Ok(Snapshot { memory, devices, hardware: self.hardware.clone() })
    }

    /// Starts a machine from `snapshot`, as often as wanted, with a channel of its own, and where the saved one had a disk with
    /// the one that is served at the other end of `drive`: of the same size and content.
    ///
    /// # Errors
    /// As [`Machine::start`]; QEMU is another one than the state is from.
    pub(crate) fn resume(snapshot: &Snapshot, drive: Option<UnixStream>) -> Result<Self, MachineError> {
        let hardware = snapshot.hardware.clone();
        if hardware.drive != drive.is_some() {
            let why = "a machine with a disk is resumed with one, and one without without".to_owned();
            return Err(MachineError::State { what: TAKEN, why });
        }
        let memory = snapshot.memory.try_clone().map_err(set_up("the guest's memory"))?;
        let mut machine = Self::launch(hardware, memory, &Beginning::State, drive)?;
        machine.take(&snapshot.devices).map_err(|error| machine.told(error))?;
        Ok(machine)
    }

    /// The state of everything but the memory.
    fn devices(&mut self) -> Result<Vec<u8>, Failure> {
        self.qmp.execute("stop", &json!({}))?;
        let mut stream = self.state_channel()?;
        self.qmp.execute("migrate", &json!({ "uri": format!("fd:{STATE}") }))?;
        let mut devices = Vec::new();
        stream.read_to_end(&mut devices).map_err(|error| Failure::State(WRITTEN, error.to_string()))?;
        self.migrated(WRITTEN)?;
        Ok(devices)
    }

    fn take(&mut self, devices: &[u8]) -> Result<(), Failure> {
        let mut stream = self.state_channel()?;
        self.qmp.execute("migrate-incoming", &json!({ "uri": format!("fd:{STATE}") }))?;
        // Where it is not taken, QEMU says why.
        let _taken = stream.write_all(devices);
        drop(stream);
        self.migrated(TAKEN)?;
        // It was stopped when it was saved.
        self.qmp.execute("cont", &json!({}))?;
        Ok(())
    }

    /// A socket that QEMU knows as `state`. Not a file: newer QEMUs want a file's descriptor to come another way (QEMU 9.1's
    /// docs/about/deprecated.rst), and all know sockets.
    fn state_channel(&mut self) -> Result<UnixStream, Failure> {
        // `x-ignore-shared` leaves memory that is a shared file out of the state; `events` tells of the end.
        let on = |capability: &str| json!({ "capability": capability, "state": true });
        let capabilities = json!({ "capabilities": [on("x-ignore-shared"), on("events")] });
        self.qmp.execute("migrate-set-capabilities", &capabilities)?;
        let pair = UnixStream::pair().and_then(|(ours, theirs)| {
            ours.set_read_timeout(Some(LIMIT))?;
            ours.set_write_timeout(Some(LIMIT))?;
            Ok((ours, theirs))
        });
        let (ours, theirs) = pair.map_err(|error| Failure::State("passed", error.to_string()))?;
        self.qmp.hand_over(STATE, theirs.as_fd())?;
        Ok(ours)
    }

    /// Waits until QEMU says that the state is done (`MigrationStatus` in QEMU's qapi/migration.json).
    fn migrated(&mut self, what: &'static str) -> Result<(), Failure> {
        let until = Instant::now() + LIMIT;
        while let Some(event) = self.qmp.event(until.saturating_duration_since(Instant::now()))? {
            let status =
                event.data.get("status").and_then(Value::as_str).filter(|_| event.name == "MIGRATION");
            match status {
                Some("completed") => return Ok(()),
                Some("failed") => {
                    let answer = self.qmp.execute("query-migrate", &json!({}))?;
                    let why =
                        answer.get("error-desc").and_then(Value::as_str).unwrap_or("QEMU does not say why");
                    return Err(Failure::State(what, why.to_owned()));
                }
                Some(_) => {}
                None => self.note(&event),
            }
        }
        Err(Failure::State(what, format!("not done within {} s", LIMIT.as_secs())))
    }

    fn told(&mut self, failure: Failure) -> MachineError {
        match failure {
            Failure::State(what, why) => MachineError::State { what, why },
            Failure::Qmp(error) => self.blame(error),
        }
    }
}

const WRITTEN: &str = "written";
const TAKEN: &str = "taken";

/// Why a state did not get to where it should, before it is known whether QEMU is still there.
#[derive(Debug)]
enum Failure {
    State(&'static str, String),
    Qmp(QmpError),
}

impl From<QmpError> for Failure {
    fn from(error: QmpError) -> Self {
        Self::Qmp(error)
    }
}
