//! How a guest ended, as a function of what QEMU told, how it exited, and what the guest's kernel printed.

use std::process::ExitStatus;

use serde_json::Value;

use super::qmp::Event;

/// What the kernel prints first when it panics (kernel/panic.c, v6.12).
const PANIC: &str = "Kernel panic - not syncing";

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The guest powered itself off.
    PoweredOff,
    /// The guest was reset and had not panicked: it asked for a reboot, or its processor gave up (a triple fault).
    Reset,
    /// The guest's kernel panicked; with the line that says why, where it got on the console.
    Panicked(String),
    /// QEMU ended or stopped for a reason outside the guest, which is told.
    Lost(String),
}

/// What QEMU has told about the machine so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Why it shut the machine down.
    shutdown: Option<String>,
    /// The guest's driver `pvpanic` told of a panic.
    panicked: bool,
    /// The processor stands still, and not because brim said so.
    stopped: bool,
}

impl Seen {
    /// Takes an event in (QEMU's qapi/run-state.json).
    pub(super) fn note(&mut self, event: &Event) {
        let reason = || event.data.get("reason").and_then(Value::as_str).unwrap_or("no reason told");
        match event.name.as_str() {
            "SHUTDOWN" => self.shutdown = Some(reason().to_owned()),
            "GUEST_PANICKED" => self.panicked = true,
            "STOP" => self.stopped = true,
            "RESUME" => self.stopped = false,
            _ => {}
        }
    }

    /// Whether a panic was told of, by QEMU or on the `console`.
    pub(super) fn panicked(&self, console: &str) -> bool {
        self.panicked || console.contains(PANIC)
    }

    /// How the machine ended, when QEMU has ended with `status`.
    pub(super) fn after(&self, status: ExitStatus, console: &str, words: &str) -> Ending {
        let by_guest =
            matches!(self.shutdown.as_deref(), Some("guest-reset" | "guest-panic" | "guest-shutdown"));
        match self.shutdown.as_deref() {
            Some(_) if by_guest && self.panicked(console) => Ending::Panicked(panic_line(console)),
            Some("guest-panic") => Ending::Panicked(panic_line(console)),
            Some("guest-reset") => Ending::Reset,
            Some("guest-shutdown") => Ending::PoweredOff,
            _ => Ending::Lost(lost(&format!("QEMU ended with {status}"), words)),
        }
    }

    /// How the machine ended, where it is there but goes nowhere any more: after a panic that did not reset it, or with a
    /// processor that QEMU cannot go on with (`KVM internal error`).
    pub(super) fn standing(&self, console: &str, words: &str) -> Option<Ending> {
        if self.panicked(console) {
            return Some(Ending::Panicked(panic_line(console)));
        }
        self.stopped.then(|| Ending::Lost(lost("QEMU has stopped the guest", words)))
    }
}

fn lost(how: &str, words: &str) -> String {
    match words.trim() {
        "" => how.to_owned(),
        words => format!("{how}: {words}"),
    }
}

/// The line of the panic, without its time.
fn panic_line(console: &str) -> String {
    let line = console.lines().find_map(|line| line.find(PANIC).and_then(|at| line.get(at..)));
    line.unwrap_or("Kernel panic").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use serde_json::json;

    use super::*;

    const CONSOLE: &str = "[    2.1] sysrq: Trigger a crash\r\n\
        [    2.2] Kernel panic - not syncing: sysrq triggered crash\r\n[    2.3] CPU: 0 PID: 1\r\n";

    fn seen(events: &[(&str, Value)]) -> Seen {
        let mut seen = Seen::default();
        for (name, data) in events {
            seen.note(&Event { name: (*name).to_owned(), data: data.clone() });
        }
        seen
    }

    fn shutdown(reason: &str) -> Seen {
        seen(&[("SHUTDOWN", json!({ "guest": true, "reason": reason }))])
    }

    fn after(seen: &Seen, console: &str) -> Ending {
        seen.after(ExitStatus::from_raw(0), console, "")
    }

    fn panicked() -> Ending {
        Ending::Panicked("Kernel panic - not syncing: sysrq triggered crash".to_owned())
    }

    #[test]
    fn a_reset_after_a_panic_is_the_panic() {
        assert_eq!(after(&shutdown("guest-reset"), CONSOLE), panicked());
        assert_eq!(after(&shutdown("guest-reset"), "reboot: Restarting system"), Ending::Reset);
        assert_eq!(after(&shutdown("guest-shutdown"), ""), Ending::PoweredOff);
    }

    #[test]
    fn the_device_pvpanic_tells_of_a_panic_that_the_console_did_not_see() {
        let told = seen(&[
            ("GUEST_PANICKED", json!({ "action": "run" })),
            ("SHUTDOWN", json!({ "guest": true, "reason": "guest-reset" })),
        ]);
        assert_eq!(after(&told, ""), Ending::Panicked("Kernel panic".to_owned()));
    }

    #[test]
    fn whatever_the_guest_did_not_do_is_lost() {
        let killed = Seen::default().after(ExitStatus::from_raw(9), "", "");
        assert_eq!(killed, Ending::Lost("QEMU ended with signal: 9 (SIGKILL)".to_owned()));
        let told =
            shutdown("host-signal").after(ExitStatus::from_raw(0), CONSOLE, "terminating on signal 15\n");
        assert_eq!(told, Ending::Lost("QEMU ended with exit status: 0: terminating on signal 15".to_owned()));
    }

    #[test]
    fn a_machine_that_stands_still_has_ended_too() {
        assert_eq!(Seen::default().standing("[ 1.0] all is well", ""), None);
        assert_eq!(Seen::default().standing(CONSOLE, ""), Some(panicked()));
        let stopped = seen(&[("STOP", Value::Null)]);
        let why = "QEMU has stopped the guest: KVM internal error. Suberror: 1".to_owned();
        assert_eq!(stopped.standing("", "KVM internal error. Suberror: 1\n"), Some(Ending::Lost(why)));
        assert_eq!(seen(&[("STOP", Value::Null), ("RESUME", Value::Null)]).standing("", ""), None);
    }
}
