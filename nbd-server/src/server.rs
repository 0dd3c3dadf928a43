//! The server: exports by name, and the threads that serve them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, JoinHandle};

use crate::connection::Connection;
use crate::control::{self, Clients, Host};
use crate::disk::Disk;
use crate::export::{Export, ExportError, ExportList, ExportOptions};
use crate::listener::{Acceptor, ListenError, Listener, Serve};
use crate::lock;
use crate::outbox::Outbox;
use crate::socket::Socket;
use crate::tls::Tls;

/// Exports disks over NBD. Dropping it is [`Server::shutdown`].
#[derive(Debug, Default)]
pub struct Server {
    exports: ExportList,
    tls: Option<Tls>,
    connections: Arc<Connections>,
    control: Arc<Clients>,
    host: control::Slot,
    acceptors: Mutex<Vec<Weak<Acceptor>>>,
}

impl Server {
    /// A server without exports that listens nowhere.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A server like [`Server::new`] that offers TLS to every client, or requires it of them.
    #[must_use]
    pub fn with_tls(tls: Tls) -> Self {
        Self {
            tls: Some(tls),
            exports: ExportList::default(),
            connections: Arc::default(),
            control: Arc::default(),
            host: control::Slot::default(),
            acceptors: Mutex::default(),
        }
    }

    /// Offers `disk` as `name`. The first export is also what a client gets that asks for the empty name.
    ///
    /// # Errors
    ///
    /// When the name is taken, or none the protocol could carry.
    pub fn add_export(&self, name: &str, disk: Disk) -> Result<(), ExportError> {
        self.add_export_with(name, disk, ExportOptions::default())
    }

    /// Offers `disk` as `name`, as [`Server::add_export`], with options. A disk may be exported under several names, and
    /// differently under each.
    ///
    /// # Errors
    ///
    /// When the name is taken, or none the protocol could carry; when the block sizes are none a client could keep to.
    pub fn add_export_with(&self, name: &str, disk: Disk, options: ExportOptions) -> Result<(), ExportError> {
        self.exports.add(name, Export { disk, options })
    }

    /// Stops offering `name` and answers its disk. Connections that have it keep it.
    #[must_use = "connections may still change the disk; `None` means that there was no such export"]
    pub fn remove_export(&self, name: &str) -> Option<Disk> {
        self.exports.remove(name)
    }

    /// Listens on a new UNIX socket at `path`. A socket that nobody listens on any more is replaced; the file goes away
    /// with the listener.
    ///
    /// # Errors
    ///
    /// When something else is at `path`, or the system refuses.
    pub fn listen_unix(&self, path: impl AsRef<Path>) -> Result<Listener, ListenError> {
        Acceptor::unix(path.as_ref(), self.door().open()).map(|acceptor| self.adopt(acceptor))
    }

    /// Listens on a TCP address; with port 0 the system picks one, which [`Listener::local_addr`] tells.
    ///
    /// # Errors
    ///
    /// When the system refuses the address.
    pub fn listen_tcp(&self, address: SocketAddr) -> Result<Listener, ListenError> {
        let tcp = |source| ListenError::Tcp { address, source };
        let listener = TcpListener::bind(address).map_err(tcp)?;
        Acceptor::tcp(listener, self.door().open()).map(|acceptor| self.adopt(acceptor)).map_err(tcp)
    }

    /// Listens on a stream socket that is bound and listening already, as systemd hands them over. A file it has stays
    /// when the listener goes.
    ///
    /// # Errors
    ///
    /// When it is no such socket.
    pub fn listen_inherited(&self, socket: OwnedFd) -> Result<Listener, ListenError> {
        Acceptor::inherited(socket, self.door().open()).map(|acceptor| self.adopt(acceptor))
    }

    /// Takes orders about the disks of this server ([`control`](crate::control)) on a new UNIX socket at `path`, which only this
    /// user can open. For the rest as [`Server::listen_unix`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn listen_control(&self, path: impl AsRef<Path>) -> Result<Listener, ListenError> {
        let (clients, door) = (Arc::clone(&self.control), self.door());
        let serve = Box::new(move |socket| clients.start(socket, door.clone()));
        Acceptor::private(path.as_ref(), serve).map(|acceptor| self.adopt(acceptor))
    }

    /// Who has put the disks of this server under a kernel: orders ask them for what the kernel has to do with it.
    pub fn set_host(&self, host: Arc<dyn Host>) {
        self.host.set(host);
    }

    /// Serves one client on a connected stream.
    ///
    /// # Errors
    ///
    /// When the system has no more descriptors or threads, or the server was shut down.
    pub fn serve(&self, stream: impl Into<Socket>) -> io::Result<()> {
        self.door().serve(stream.into())
    }

    /// How many clients are being served.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.connections.count()
    }

    /// A connection within this process: one end of a socket pair whose other end is served.
    ///
    /// # Errors
    ///
    /// When the system has no more descriptors or threads, or the server was shut down.
    pub fn connect(&self) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        self.door().serve(ours.into())?;
        Ok(theirs)
    }

    /// Closes all listeners and connections and waits for their threads. Held requests are dropped, not executed. The
    /// server cannot be used again.
    pub fn shutdown(&self) {
        for acceptor in lock(&self.acceptors).drain(..).filter_map(|weak| weak.upgrade()) {
            acceptor.stop();
        }
        self.control.shutdown();
        self.connections.shutdown();
    }

    fn door(&self) -> Door {
        Door {
            exports: self.exports.clone(),
            tls: self.tls.clone(),
            connections: Arc::clone(&self.connections),
            host: self.host.clone(),
        }
    }

    fn adopt(&self, acceptor: Arc<Acceptor>) -> Listener {
        let mut acceptors = lock(&self.acceptors);
        acceptors.retain(|weak| weak.strong_count() > 0);
        acceptors.push(Arc::downgrade(&acceptor));
        Listener::new(acceptor)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// Where sockets become connections.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    exports: ExportList,
    tls: Option<Tls>,
    connections: Arc<Connections>,
    host: control::Slot,
}

impl Door {
    pub(crate) fn serve(&self, socket: Socket) -> io::Result<()> {
        self.connections.start(socket, self.tls.clone(), self.exports.clone())
    }

    pub(crate) const fn exports(&self) -> &ExportList {
        &self.exports
    }

    pub(crate) const fn host(&self) -> &control::Slot {
        &self.host
    }

    pub(crate) fn connection_count(&self) -> usize {
        self.connections.count()
    }

    fn open(self) -> Serve {
        Box::new(move |socket| self.serve(socket))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Connections(Mutex<Threads>);

#[derive(Debug, Default)]
struct Threads {
    running: Vec<(Weak<Outbox>, JoinHandle<()>)>,
    stopped: bool,
}

impl Connections {
    fn count(&self) -> usize {
        let threads = lock(&self.0);
        threads.running.iter().filter(|(_, thread)| !thread.is_finished()).count()
    }

    fn start(&self, socket: Socket, tls: Option<Tls>, exports: ExportList) -> io::Result<()> {
        let mut threads = lock(&self.0);
        if threads.stopped {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the server was shut down"));
        }
        threads.running.retain(|(_, thread)| !thread.is_finished());
        let socket = Arc::new(socket);
        let outbox = Arc::new(Outbox::new(Arc::clone(&socket))?);
        let weak = Arc::downgrade(&outbox);
        let connection = move || {
            // The client sees the connection end, and there is nobody else to tell.
            let _client_broke_off = Connection::new(socket, tls, exports, outbox).serve();
        };
        let thread = thread::Builder::new().name("nbd connection".to_owned()).spawn(connection)?;
        threads.running.push((weak, thread));
        Ok(())
    }

    fn shutdown(&self) {
        let running = {
            let mut threads = lock(&self.0);
            threads.stopped = true;
            std::mem::take(&mut threads.running)
        };
        for outbox in running.iter().filter_map(|(outbox, _)| outbox.upgrade()) {
            outbox.stop();
        }
        for (_, thread) in running {
            // A thread that panicked has told so on stderr, and its connection is closed like the others.
            let _panicked = thread.join();
        }
    }
}
