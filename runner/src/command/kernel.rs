//! `brim kernel`: which kernels are here, and getting others.

use std::path::Path;

use serde_json::json;

use crate::cli;
use crate::error::{Error, Exit};
use crate::kernel::{self, Added, Kept, Kernel, Store};
use crate::output;

/// The schema of the JSON lines.
const SCHEMA: u32 = 1;

/// Does what a subcommand says.
pub(crate) fn kernel(command: &cli::Kernel) -> Result<Exit, Error> {
    match command {
        cli::Kernel::Add { names, update, sources } => add(names, *update, sources.as_deref())?,
        cli::Kernel::List { json } => list(*json)?,
        cli::Kernel::Remove { names } => {
            let store = Store::open()?;
            names.iter().try_for_each(|name| store.remove(name))?;
        }
        cli::Kernel::Show { kernel, modules, load, vmlinux } => {
            show(&Kernel::find(kernel, modules.as_deref())?, load, *vmlinux)?;
        }
    }
    Ok(Exit::Expected)
}

/// Gets what can be got; of several errors the last is returned.
fn add(names: &[String], update: bool, sources: Option<&Path>) -> Result<(), Error> {
    let mut failed = None;
    for name in names {
        match kernel::add(name, sources, update, &output::note) {
            Ok(Added::New(kept)) => output::line(&in_words(&kept)),
            Ok(Added::Already(kept)) => output::line(&format!("{} (was here)", in_words(&kept))),
            Err(error) => {
                if let Some(earlier) = failed.replace(error) {
                    crate::show(earlier.into());
                }
            }
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

fn list(as_json: bool) -> Result<(), Error> {
    let store = Store::open()?;
    let here = store.all();
    let is_here = |name: &String| here.iter().any(|kept| kept.about.name == *name);
    let others: Vec<String> = kernel::names().into_iter().filter(|name| !is_here(name)).collect();
    if as_json {
        for kept in &here {
            output::line(&in_json(kept));
        }
        for name in others {
            output::line(&json!({ "schema": SCHEMA, "name": name, "here": false }).to_string());
        }
        return Ok(());
    }
    output::line(&format!("kernels in {}:", store.root().display()));
    for kept in &here {
        output::line(&format!("  {}", in_words(kept)));
    }
    for name in others {
        output::line(&format!("  {name:<16} not here: brim kernel add {name}"));
    }
    Ok(())
}

fn in_words(Kept { about, .. }: &Kept) -> String {
    format!("{:<16} {:<28} {} {}", about.name, about.release, about.package, about.version)
}

fn in_json(Kept { about, image, modules }: &Kept) -> String {
    let line = json!({
        "schema": SCHEMA,
        "name": about.name,
        "here": true,
        "kind": about.kind,
        "release": about.release,
        "package": about.package,
        "version": about.version,
        "image": image,
        "modules": modules,
    });
    line.to_string()
}

fn show(kernel: &Kernel, load: &[String], vmlinux: bool) -> Result<(), Error> {
    let pair = |name: &str, value: &str| output::line(&format!("{name:<8} {value}"));
    pair("name", &kernel.name);
    pair("kind", kernel.kind.word());
    pair("release", &kernel.release);
    pair("image", &kernel.image.display().to_string());
    match &kernel.modules {
        Some(path) => pair("modules", &path.display().to_string()),
        None => pair("modules", "none: what is not built in is not there"),
    }
    if vmlinux {
        match kernel.vmlinux()? {
            Some(path) => pair("vmlinux", &path.display().to_string()),
            None => pair("vmlinux", "none that PVH could enter"),
        }
    }
    let wanted: Vec<&str> = load.iter().map(String::as_str).collect();
    for module in kernel.modules(&wanted)? {
        let wish = if module.is_required { "" } else { ", not needed" };
        pair("load", &format!("{} ({} bytes{wish})", module.name, module.elf.len()));
    }
    Ok(())
}
