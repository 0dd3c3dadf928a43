//! Listening sockets, each with a thread that accepts.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use crate::lock;
use crate::outbox::Bell;
use crate::socket::Socket;

/// Why a server cannot listen somewhere.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// There is a file that is no socket; it is left alone.
    #[error("{} is there already and is not a socket", path.display())]
    NotASocket {
        /// The path asked for.
        path: PathBuf,
    },
    /// Another process listens there.
    #[error("another server listens on {}", path.display())]
    InUse {
        /// The path asked for.
        path: PathBuf,
    },
    /// The system refuses the path.
    #[error("cannot listen on {}", path.display())]
    Unix {
        /// The path asked for.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A descriptor that was handed over is no listening stream socket.
    #[error("what was handed over is not a listening UNIX or TCP socket")]
    NotListening,
    /// The system refuses what was handed over.
    #[error("cannot listen on the socket that was handed over")]
    Inherited {
        /// What the system says.
        source: io::Error,
    },
    /// The system refuses the address.
    #[error("cannot listen on {address}")]
    Tcp {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// A socket that a [`Server`](crate::Server) listens on. Dropping it closes it and removes its file; connections that
/// were accepted go on.
#[derive(Debug)]
pub struct Listener {
    acceptor: Arc<Acceptor>,
}

impl Listener {
    pub(crate) fn new(acceptor: Arc<Acceptor>) -> Self {
        Self { acceptor }
    }

    /// The TCP address, with the port the system picked; `None` for a UNIX socket.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.acceptor.place {
            Place::Tcp(address) => Some(*address),
            Place::Unix(_) => None,
        }
    }

    /// The path of the UNIX socket; `None` for TCP.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.acceptor.place {
            Place::Unix(path) => Some(path),
            Place::Tcp(_) => None,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.acceptor.stop();
    }
}

#[derive(Debug)]
enum Place {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// What becomes of a client. `NotConnected` says that there is nothing to serve any more.
pub(crate) type Serve = Box<dyn Fn(Socket) -> io::Result<()> + Send>;

/// The thread behind a listener, which its server can stop too.
#[derive(Debug)]
pub(crate) struct Acceptor {
    place: Place,
    bell: Arc<Bell>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Acceptor {
    pub(crate) fn unix(path: &Path, serve: Serve) -> Result<Arc<Self>, ListenError> {
        let failed = |source| ListenError::Unix { path: path.to_owned(), source };
        remove_stale(path)?;
        let listener = UnixListener::bind(path).map_err(failed)?;
        Self::bound(path, listener, serve)
    }

    /// As [`Acceptor::unix`], for this user alone.
    pub(crate) fn private(path: &Path, serve: Serve) -> Result<Arc<Self>, ListenError> {
        let failed = |source| ListenError::Unix { path: path.to_owned(), source };
        remove_stale(path)?;
        let listener = bind_private(path).map_err(|errno| failed(errno.into()))?;
        Self::bound(path, listener, serve)
    }

    fn bound(path: &Path, listener: UnixListener, serve: Serve) -> Result<Arc<Self>, ListenError> {
        let failed = |source| ListenError::Unix { path: path.to_owned(), source };
        let file = SocketFile::of(path).map_err(failed)?;
        let bound = Bound { socket: Listening::Unix(listener), _file: Some(file) };
        Self::start(bound, Place::Unix(path.to_owned()), serve).map_err(failed)
    }

    pub(crate) fn tcp(listener: TcpListener, serve: Serve) -> io::Result<Arc<Self>> {
        let address = listener.local_addr()?;
        Self::start(Bound { socket: Listening::Tcp(listener), _file: None }, Place::Tcp(address), serve)
    }

    /// Listens on a socket that somebody else has bound, and whose file is theirs.
    pub(crate) fn inherited(fd: OwnedFd, serve: Serve) -> Result<Arc<Self>, ListenError> {
        let failed = |source| ListenError::Inherited { source };
        if !sockopt::socket_acceptconn(&fd).unwrap_or(false) {
            return Err(ListenError::NotListening);
        }
        let family = sockopt::socket_domain(&fd).map_err(|errno| failed(errno.into()))?;
        if family == AddressFamily::UNIX {
            let listener = UnixListener::from(fd);
            let address = listener.local_addr().map_err(failed)?;
            let path = address.as_pathname().unwrap_or(Path::new("")).to_owned();
            let bound = Bound { socket: Listening::Unix(listener), _file: None };
            return Self::start(bound, Place::Unix(path), serve).map_err(failed);
        }
        if family != AddressFamily::INET && family != AddressFamily::INET6 {
            return Err(ListenError::NotListening);
        }
        Self::tcp(TcpListener::from(fd), serve).map_err(failed)
    }

    fn start(bound: Bound, place: Place, serve: Serve) -> io::Result<Arc<Self>> {
        // A client that gives up between poll and accept must not leave the thread waiting in accept.
        bound.socket.set_nonblocking()?;
        let bell = Arc::new(Bell::new()?);
        let heard = Arc::clone(&bell);
        let accepting = move || accept_until_bell(&bound, &heard, &serve);
        let thread = thread::Builder::new().name("nbd listener".to_owned()).spawn(accepting)?;
        Ok(Arc::new(Self { place, bell, thread: Mutex::new(Some(thread)) }))
    }

    /// Closes the socket, removes its file, and returns when that is done.
    pub(crate) fn stop(&self) {
        self.bell.ring();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            // A thread that panicked has told so on stderr, and its socket is closed all the same.
            let _panicked = thread.join();
        }
    }
}

/// What the accepting thread owns; its end closes and removes it.
struct Bound {
    socket: Listening,
    _file: Option<SocketFile>,
}

enum Listening {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listening {
    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Unix(listener) => listener.set_nonblocking(true),
            Self::Tcp(listener) => listener.set_nonblocking(true),
        }
    }

    fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Unix(listener) => listener.accept().map(|(stream, _)| stream.into()),
            Self::Tcp(listener) => listener.accept().map(|(stream, _)| stream.into()),
        }
    }
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener) => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

fn accept_until_bell(bound: &Bound, bell: &Bell, serve: &Serve) {
    loop {
        let mut fds = [PollFd::new(&bound.socket, PollFlags::IN), PollFd::new(bell, PollFlags::IN)];
        if poll(&mut fds, None).is_err_and(|error| error != rustix::io::Errno::INTR) {
            return;
        }
        let [_, rung] = fds.map(|fd| fd.revents());
        if !rung.is_empty() {
            return;
        }
        match bound.socket.accept().and_then(serve) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return,
            // The client gave up already, or the system is short of descriptors or threads: the client is turned away
            // by the closing of its socket, and the next one may have more luck.
            Err(_) => thread::yield_now(),
        }
    }
}

/// The file of a socket, removed with this value unless another file took its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            // Somebody may remove it first, which is as well.
            let _removed_already = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// A listening socket whose file nobody else ever could open.
fn bind_private(path: &Path) -> rustix::io::Result<UnixListener> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    // The file gets the mode that the socket has when it is bound, less the umask (`unix_bind_bsd` in net/unix/af_unix.c, v6.12).
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

/// Clients that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Makes way for a socket at `path`, if what is there is a socket without a listener.
fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let failed = |source| ListenError::Unix { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ListenError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(ListenError::InUse { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}
