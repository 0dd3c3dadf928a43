//! `brim serve`: the NBD server alone.

mod disks;

use std::fmt::Write;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nbd_server::{Listener, Server};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use crate::cli::{self, TlsMode};
use crate::error::{Error, Exit};
use crate::interrupt::Interrupt;
use crate::output;

/// How often the server's main thread looks whether it was told to end.
const TICK: Duration = Duration::from_millis(100);

/// The first descriptor that systemd hands over: `sd_listen_fds(3)`, `SD_LISTEN_FDS_START`.
const LISTEN_FDS_START: i32 = 3;

/// Serves until it is told to end, or until its one client has gone.
pub(crate) fn serve(arguments: &cli::Serve) -> Result<Exit, Error> {
    let interrupt =
        Interrupt::take_over().map_err(|source| Error::Process { what: "take signals over", source })?;
    let disks = disks::server(arguments)?;
    let server = &disks.server;
    let listeners = listen(server, arguments)?;
    let control = arguments.control.as_ref().map(|path| server.listen_control(path));
    let control = control.transpose().map_err(|error| failed(&error))?;
    tell(&listeners, &disks.names, arguments.tls != TlsMode::Off);
    if arguments.stdio {
        let client = client_on_stdin().map_err(|error| Error::Serve {
            what: error.to_string(),
            help: "it is for a client that starts the server with one end of a socket pair".to_owned(),
        })?;
        server.serve(client).map_err(|error| failed(&error))?;
    }
    while !interrupt.happened() && (!arguments.stdio || server.connection_count() > 0) {
        std::thread::sleep(TICK);
    }
    drop((listeners, control));
    server.shutdown();
    disks.finish()?;
    Ok(Exit::Expected)
}

fn failed(error: &dyn std::fmt::Display) -> Error {
    let help = "a socket's path must be new, an address must be free".to_owned();
    Error::Serve { what: error.to_string(), help }
}

fn listen(server: &Server, arguments: &cli::Serve) -> Result<Vec<Listener>, Error> {
    let mut listeners = Vec::new();
    if let Some(path) = &arguments.unix {
        listeners.push(server.listen_unix(path).map_err(|error| failed(&error))?);
    }
    if let Some(address) = arguments.listen {
        listeners.push(server.listen_tcp(address).map_err(|error| failed(&error))?);
    }
    if arguments.activated {
        for socket in handed_over()? {
            listeners.push(server.listen_inherited(socket).map_err(|error| failed(&error))?);
        }
    }
    Ok(listeners)
}

/// Says where each export can be reached, over TLS where there is TLS.
fn tell(listeners: &[Listener], names: &[String], tls: bool) {
    let scheme = if tls { "nbds" } else { "nbd" };
    for (listener, name) in
        listeners.iter().flat_map(|listener| names.iter().map(move |name| (listener, name)))
    {
        let name = escaped(name);
        if let Some(address) = listener.local_addr() {
            output::note(&format!("{scheme}://{address}/{name}"));
        } else if let Some(path) = listener.path() {
            output::note(&format!("{scheme}+unix:///{name}?socket={}", path.display()));
        }
    }
}

/// A name as a path of a URI has it (RFC 3986, 3.3).
fn escaped(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _text_takes_all = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// The socket at the other end of standard input. It is also at that of standard output, where nothing else may go.
fn client_on_stdin() -> io::Result<UnixStream> {
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    if rustix::net::getsockname(&input).is_err() {
        return Err(io::Error::other("standard input is not a socket"));
    }
    // A stream socket of another family is used in the same way: nothing here depends on its address.
    Ok(UnixStream::from(input))
}

/// The sockets that systemd hands over (`sd_listen_fds(3)`).
fn handed_over() -> Result<Vec<OwnedFd>, Error> {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<i32>().ok());
    let ours = number("LISTEN_PID") == Some(getpid().as_raw_nonzero().get());
    let count = number("LISTEN_FDS").filter(|count| ours && *count > 0);
    let Some(count) = count else {
        let help = "it is for a systemd socket unit, or `systemd-socket-activate`".to_owned();
        return Err(Error::Serve { what: "no socket was handed over".to_owned(), help });
    };
    // Taking a descriptor by its number is `unsafe`; asking the kernel for another one of the same socket is not.
    let myself = pidfd_open(getpid(), PidfdFlags::empty()).map_err(|error| failed(&error))?;
    (LISTEN_FDS_START..)
        .take(usize::try_from(count).unwrap_or(0))
        .map(|fd| pidfd_getfd(&myself, fd, PidfdGetfdFlags::empty()).map_err(|error| failed(&error)))
        .collect()
}
