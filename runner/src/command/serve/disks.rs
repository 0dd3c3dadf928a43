//! What is served: a disk for each export, and TLS before them.

use std::path::Path;

use brim_scenario::Profile;
use nbd_server::{Disk, DiskOptions, ExportError, ExportOptions, Server, Tls, TlsError, TlsOptions};

use crate::cli::{BlockSizePolicy, Export, Serve, TlsMode};
use crate::error::Error;
use crate::{profile, write_log};

/// A server with all exports that were asked for.
pub(super) struct Served {
    pub(super) server: Server,
    /// Of the exports, in order.
    pub(super) names: Vec<String>,
    /// The disk whose log is kept.
    logged: Option<Disk>,
}

impl Served {
    /// Waits until the log is written, if one is kept.
    pub(super) fn finish(self) -> Result<(), Error> {
        self.logged.iter().try_for_each(write_log::finish)
    }
}

/// Makes the disks that were asked for, and a server for them.
pub(super) fn server(arguments: &Serve) -> Result<Served, Error> {
    let server = match tls(arguments)? {
        Some(tls) => Server::with_tls(tls),
        None => Server::new(),
    };
    let profile = arguments.config.as_deref().map(profile::find).transpose()?;
    let options = ExportOptions {
        read_only: arguments.read_only,
        rotational: arguments.rotational || profile.as_ref().is_some_and(|profile| profile.rotational),
        block_sizes: arguments.block_size.unwrap_or_default(),
        enforce_block_sizes: arguments.block_size.is_some()
            && arguments.block_size_policy == BlockSizePolicy::Error,
    };
    let nameless = [Export { name: String::new(), size: None }];
    let exports = if arguments.export.is_empty() { &nameless[..] } else { &arguments.export };
    let mut logged = None;
    for export in exports {
        let disk = disk(export, arguments, profile.as_ref())?;
        if let Some(path) = &arguments.log {
            start_log(&disk, path, exports.len())?;
            logged = Some(disk.clone());
        }
        server.add_export_with(&export.name, disk, options).map_err(|error| refused(&error))?;
    }
    let names = exports.iter().map(|export| export.name.clone()).collect();
    Ok(Served { server, names, logged })
}

fn start_log(disk: &Disk, path: &Path, exports: usize) -> Result<(), Error> {
    if exports > 1 {
        let what = format!("--log keeps the log of one disk, and there are {exports}");
        return Err(Error::Usage { what, help: "serve the others by a brim of their own".to_owned() });
    }
    write_log::start(disk, path)
}

fn disk(export: &Export, arguments: &Serve, profile: Option<&Profile>) -> Result<Disk, Error> {
    let Some(size) = export.size.or(arguments.size).or(profile.and_then(|profile| profile.size)) else {
        let (what, help) = if arguments.export.is_empty() {
            ("the disk has no size".to_owned(), "give it one, as in --size 1GiB".to_owned())
        } else {
            let (name, what) = (&export.name, format!("the export {:?} has no size", export.name));
            (what, format!("give it one, as in --export {name}=1GiB, or one to all by --size 1GiB"))
        };
        return Err(Error::Usage { what, help });
    };
    let write_cache = arguments.write_cache || profile.is_some_and(|profile| profile.write_cache);
    let disk = Disk::new_with(size, DiskOptions { write_cache, seed: arguments.seed }).map_err(|error| {
        Error::Usage {
            what: error.to_string(),
            help: "a size is a multiple of 512 bytes, as in --size 1GiB".to_owned(),
        }
    })?;
    for row in profile.into_iter().flat_map(|profile| &profile.faults) {
        disk.add_fault(row.clone()).map_err(|error| Error::Usage {
            what: error.to_string(),
            help: "a region has to be defined before a fault is about it, which no profile can do".to_owned(),
        })?;
    }
    Ok(disk)
}

fn refused(error: &ExportError) -> Error {
    let help = match error {
        ExportError::Exists { .. } => "each --export is another disk, and needs a name of its own",
        ExportError::Name { .. } => "give it a shorter name",
        ExportError::Uneven { .. } => "take another --size, or a smaller --block-size",
        _ => "give --block-size a maximum of 64MiB at most, as in --block-size 512,4096,1MiB",
    };
    Error::Usage { what: error.to_string(), help: help.to_owned() }
}

fn tls(arguments: &Serve) -> Result<Option<Tls>, Error> {
    let required = match arguments.tls {
        TlsMode::Off => return Ok(None),
        TlsMode::On => false,
        TlsMode::Require => true,
    };
    // The command line has seen to it that there is one.
    let directory = arguments.tls_certificates.clone().unwrap_or_default();
    let options = TlsOptions { required, verify_peer: arguments.tls_verify_peer };
    Tls::from_directory(directory, options).map(Some).map_err(|error| unusable(&error))
}

fn unusable(error: &TlsError) -> Error {
    let mut what = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        what = format!("{what}: {next}");
        cause = next.source();
    }
    let help = match error {
        TlsError::Read { .. } | TlsError::Missing { .. } => {
            "docs/nbd.md, \"TLS\", has the commands of openssl that make all files of such a directory"
        }
        _ => "`openssl x509 -text -in FILE` shows a certificate; keys are in PEM, without a passphrase",
    };
    Error::Usage { what, help: help.to_owned() }
}
