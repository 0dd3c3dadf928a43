//! `brim serve`: the NBD server alone.

use std::time::Duration;

use nbd_server::{Disk, Server};

use crate::cli;
use crate::error::{Error, Exit};
use crate::interrupt::Interrupt;
use crate::output;

/// How often the server's main thread looks whether it was told to end.
const TICK: Duration = Duration::from_millis(100);

/// Serves until it is told to end.
pub(crate) fn serve(arguments: &cli::Serve) -> Result<Exit, Error> {
    let interrupt =
        Interrupt::take_over().map_err(|source| Error::Process { what: "take signals over", source })?;
    let help = "a size is a multiple of 512 bytes; a socket's path must be new".to_owned();
    let failed = |error: &dyn std::fmt::Display| Error::Serve { what: error.to_string(), help: help.clone() };
    let disk = Disk::new(arguments.size).map_err(|error| failed(&error))?;
    let server = Server::new();
    server.add_export(&arguments.export, disk).map_err(|error| failed(&error))?;
    let mut listeners = Vec::new();
    if let Some(path) = &arguments.unix {
        listeners.push(server.listen_unix(path).map_err(|error| failed(&error))?);
        output::note(&format!("nbd+unix:///{}?socket={}", arguments.export, path.display()));
    }
    if let Some(address) = arguments.listen {
        let listener = server.listen_tcp(address).map_err(|error| failed(&error))?;
        let bound = listener.local_addr().unwrap_or(address);
        output::note(&format!("nbd://{bound}/{}", arguments.export));
        listeners.push(listener);
    }
    while !interrupt.happened() {
        std::thread::sleep(TICK);
    }
    drop(listeners);
    server.shutdown();
    Ok(Exit::Expected)
}
