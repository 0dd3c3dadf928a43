//! `brim bundle`: what a bundle says. It runs nothing.

use std::path::Path;

use brim_report::{mail, verdict};

use crate::bundle::{self, Opened};
use crate::cli::Bundle;
use crate::error::{Error, Exit};
use crate::output;

/// Shows a bundle, or writes the mail about it.
pub(crate) fn bundle(subcommand: &Bundle) -> Result<Exit, Error> {
    match subcommand {
        Bundle::Show { file } => show(file),
        Bundle::Mail { file } => {
            let opened = bundle::open(file)?;
            output::line(mail::mail(opened.told(&tools(&opened))).trim_end());
            Ok(Exit::Expected)
        }
        Bundle::Scenario { file } => {
            output::line(bundle::open(file)?.bundle.scenario.trim_end());
            Ok(Exit::Expected)
        }
    }
}

fn show(file: &Path) -> Result<Exit, Error> {
    let opened = bundle::open(file)?;
    let style = output::style(&std::io::stdout());
    let manifest = &opened.bundle.manifest;
    output::line(&verdict::heading(&manifest.verdict, &opened.plan.claim, style));
    output::line(&verdict::block(&manifest.verdict, &opened.events, style));
    output::line(&format!("  bundle: brim run --bundle {}", file.display()));
    output::line("");
    let fact = |name: &str, value: &str| output::line(&format!("    {name:<11} {value}"));
    fact("brim", &manifest.brim);
    fact("kernel", &manifest.kernel);
    for (name, version) in tools(&opened) {
        fact(&name, &version);
    }
    let disk = |disk: &brim_device::Store| {
        format!("{} B, of which {} B were written", disk.size().0, disk.allocated().0)
    };
    let names = opened.plan.devices.iter().map(|device| device.name.as_str());
    for (name, before) in names.clone().zip(&opened.bundle.before) {
        fact(name, &disk(before));
    }
    for (name, after) in names.zip(&opened.bundle.after) {
        fact(&format!("{name} after"), &disk(after));
    }
    for left in &manifest.left_out {
        fact("not in it", left);
    }
    Ok(Exit::Expected)
}

fn tools(opened: &Opened) -> Vec<(String, String)> {
    let tools = opened.bundle.manifest.tools.iter();
    tools.map(|tool| (tool.name.clone(), tool.version.clone())).collect()
}
