//! TLS: whom a server shows itself as, and whom it lets in. Keys and certificates are read once, from a directory in the
//! layout that libnbd, nbdkit and QEMU share.
//!
//! There is no TLS by pre-shared key: rustls has none. `docs/nbd.md` says what to do instead.

mod session;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nbd_wire::TlsPolicy;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

pub(crate) use session::Session;

/// Who signs the certificates of clients.
const AUTHORITY: &str = "ca-cert.pem";
/// Certificates that the authority has taken back.
const REVOKED: &str = "ca-crl.pem";
/// The server's own certificate, with those between it and the authority behind it.
const CERTIFICATE: &str = "server-cert.pem";
/// The key to it.
const KEY: &str = "server-key.pem";

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The file is missing, or closed to us.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not what its name says.
    #[error("{} has no {what} in PEM form", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
    },
    /// The file is PEM, and broken.
    #[error("{} is not sound PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// What is in the file cannot be used, or does not belong to the others.
    #[error("{} cannot be used", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What a server asks of its clients. Without anything, TLS is theirs to take or leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsOptions {
    /// Nothing is served without TLS.
    pub required: bool,
    /// A client needs a certificate that the authority of `ca-cert.pem` has signed.
    pub verify_peer: bool,
}

/// TLS as a server offers it.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    required: bool,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("required", &self.required).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads `server-cert.pem` and `server-key.pem`, and to verify clients `ca-cert.pem` and, where it is there,
    /// `ca-crl.pem`.
    ///
    /// # Errors
    ///
    /// When one of them is missing, unusable, or the key to another certificate.
    pub fn from_directory(directory: impl AsRef<Path>, options: TlsOptions) -> Result<Self, TlsError> {
        let directory = directory.as_ref();
        let provider = Arc::new(ring::default_provider());
        let certificates = certificates(&directory.join(CERTIFICATE))?;
        let path = directory.join(KEY);
        let key = PrivateKeyDer::from_pem_file(&path).map_err(|error| wrong(&path, "private key", error))?;
        let clients = if options.verify_peer {
            verifier(directory, &provider)?
        } else {
            WebPkiClientVerifier::no_client_auth()
        };
        let unusable = |source| TlsError::Unusable { path, source: Box::new(source) };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder.with_client_cert_verifier(clients).with_single_cert(certificates, key)
            })
            .map_err(unusable)?;
        // A connection lasts as long as what is mounted on it. Nobody comes back to resume one.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), required: options.required })
    }

    pub(crate) fn policy(&self) -> TlsPolicy {
        if self.required { TlsPolicy::Required } else { TlsPolicy::Optional }
    }
}

fn verifier(
    directory: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let path = directory.join(AUTHORITY);
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&path)? {
        let unusable = |source| TlsError::Unusable { path: path.clone(), source: Box::new(source) };
        roots.add(certificate).map_err(unusable)?;
    }
    let revoked = directory.join(REVOKED);
    let mut crls = Vec::new();
    // Only a list that is not there is no list: one that cannot be looked at must not let anybody in.
    let absent = fs::symlink_metadata(&revoked).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    if !absent {
        crls = all::<CertificateRevocationListDer<'_>>(&revoked, "revocation list")?;
    }
    let (path, crls_are_there) = if crls.is_empty() { (path, false) } else { (revoked, true) };
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if crls_are_there {
        // Authorities in between seldom publish lists of their own.
        builder = builder.with_crls(crls).only_check_end_entity_revocation();
    }
    let unusable = |source: VerifierBuilderError| TlsError::Unusable { path, source: Box::new(source) };
    builder.build().map_err(unusable)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    all(path, "certificate")
}

/// Everything of one kind that a file has, at least one.
fn all<T: PemObject>(path: &Path, what: &'static str) -> Result<Vec<T>, TlsError> {
    let found: Result<Vec<T>, pem::Error> = T::pem_file_iter(path).and_then(Iterator::collect);
    match found {
        Ok(found) if found.is_empty() => Err(TlsError::Missing { path: path.to_owned(), what }),
        Ok(found) => Ok(found),
        Err(error) => Err(wrong(path, what, error)),
    }
}

fn wrong(path: &Path, what: &'static str, error: pem::Error) -> TlsError {
    let path = path.to_owned();
    match error {
        pem::Error::Io(source) => TlsError::Read { path, source },
        pem::Error::NoItemsFound => TlsError::Missing { path, what },
        source => TlsError::Pem { path, source },
    }
}
