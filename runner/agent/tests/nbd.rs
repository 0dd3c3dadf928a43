//! The nbd device on a real kernel that has nbd.ko: User Mode Linux, one for each test. This program is its process 1 too, with
//! the root of this machine as its own, to be read only.
//!
//! Without such a kernel (`BRIM_TEST_UML` names another than Debian's) the tests say so in their names and are ignored; with
//! `BRIM_TEST_REQUIRE=1` (as in CI) they fail instead.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]
#![expect(clippy::disallowed_methods, reason = "they wait for a kernel, on the real clock")]
#![expect(clippy::print_stdout, reason = "a guest's console is how it says what came of its test")]

#[path = "nbd/cases.rs"]
mod cases;
#[path = "nbd/guest.rs"]
mod guest;
#[path = "nbd/uml.rs"]
mod uml;

use libtest_mimic::{Arguments, Trial};
use uml::Uml;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [guest::INIT, module, case, ..] if std::process::id() == 1 => guest::init(module, case),
        [guest::KILLED] => guest::attach_and_wait(),
        _ => {}
    }
    let uml = Uml::find();
    let trials = cases::ALL.iter().map(|(name, tools, _)| trial(name, tools, &uml)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn trial(name: &'static str, tools: &[&str], uml: &Result<Uml, String>) -> Trial {
    let missing = tools.iter().find(|tool| guest::find(tool).is_none());
    match missing.map_or_else(|| uml.clone(), |tool| Err((*tool).to_owned())) {
        Ok(uml) => Trial::test(name, move || uml.run(name).map_err(Into::into)),
        Err(why) if std::env::var_os("BRIM_TEST_REQUIRE").is_some() => {
            Trial::test(name, move || Err(format!("this must run here, but the machine lacks: {why}").into()))
        }
        Err(why) => {
            Trial::test(format!("{name} (skipped, it needs {why})"), || Ok(())).with_ignored_flag(true)
        }
    }
}
