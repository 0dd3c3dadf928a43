//! Certificates in the layout of libnbd, nbdkit and QEMU, made for one test.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SerialNumber,
};

/// The serial number of every client's certificate.
pub(crate) const CLIENT_SERIAL: u64 = 77;

/// An authority, and a directory with a server and a client that it has signed: `ca-cert.pem`, `server-cert.pem`,
/// `server-key.pem`, `client-cert.pem`, `client-key.pem`.
pub(crate) struct Certificates {
    pub(crate) authority: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let certificates = Self { authority, directory: tempfile::tempdir().unwrap() };
        std::fs::write(certificates.path("ca-cert.pem"), certificates.authority.pem()).unwrap();
        certificates.sign("server", ExtendedKeyUsagePurpose::ServerAuth);
        certificates.sign("client", ExtendedKeyUsagePurpose::ClientAuth);
        certificates
    }

    fn sign(&self, who: &str, usage: ExtendedKeyUsagePurpose) {
        let key = KeyPair::generate().unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        // QEMU wants the second one too, though no key exchange of today uses it.
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![usage];
        params.serial_number = (who == "client").then(|| SerialNumber::from(CLIENT_SERIAL));
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        std::fs::write(self.path(&format!("{who}-cert.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{who}-key.pem")), key.serialize_pem()).unwrap();
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }
}
