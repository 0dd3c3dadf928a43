//! TLS as libnbd and QEMU speak it.

use brim_device::Bytes;
use libtest_mimic::Failed;
use nbd_server::{DiskOptions, Server, Tls, TlsOptions};

use super::certificates::Certificates;
use super::{Family, QEMU_IO_SCRIPT, Rig, SIZE, noise, output, succeed, text};

type Check = fn(&Secured) -> Result<(), Failed>;

pub(crate) const CHECKS: [(&str, &str, Check); 8] = [
    ("nbdinfo", "tls_protocol", nbdinfo_protocol),
    ("nbdinfo", "tls_without_certificate", nbdinfo_without_certificate),
    ("nbdinfo", "tls_wrong_authority", nbdinfo_wrong_authority),
    ("nbdinfo", "tls_not_asked_for", nbdinfo_plain),
    ("nbdinfo", "tls_not_offered", nbdinfo_not_offered),
    ("nbdcopy", "tls_round_trip", nbdcopy_round_trip),
    ("qemu-io", "tls_script", qemu_io_script),
    ("qemu-img", "tls_convert_and_refusal", qemu_img_convert),
];

/// A server that lets nobody in without a certificate of ours.
pub(crate) struct Secured {
    rig: Rig,
    certificates: Certificates,
}

impl Secured {
    pub(crate) fn new(family: Family) -> Self {
        let certificates = Certificates::new();
        let options = TlsOptions { required: true, verify_peer: true };
        let tls = Tls::from_directory(certificates.directory(), options).unwrap();
        Self { rig: Rig::on(Server::with_tls(tls), family, DiskOptions::default()), certificates }
    }

    /// The server's URI for a client of libnbd that has these certificates.
    fn uri(&self, certificates: &Certificates) -> String {
        let uri = self.rig.uri.replacen("nbd", "nbds", 1);
        let mark = if uri.contains('?') { '&' } else { '?' };
        format!("{uri}{mark}tls-certificates={}", text(certificates.directory()))
    }

    fn own_uri(&self) -> String {
        self.uri(&self.certificates)
    }

    /// The options of QEMU's tools: credentials, and the image that uses them.
    fn qemu(&self, certificates: &Certificates) -> [String; 2] {
        let directory = text(certificates.directory());
        let credentials = format!("tls-creds-x509,id=tls0,endpoint=client,dir={directory},verify-peer=yes");
        let place = if let Some((_, path)) = self.rig.uri.split_once("socket=") {
            format!("server.type=unix,server.path={path}")
        } else {
            let port = self.rig.uri.rsplit([':', '/']).nth(1).unwrap_or_default();
            format!("server.type=inet,server.host=127.0.0.1,server.port={port}")
        };
        let image = format!("driver=nbd,{place},export=disk,tls-creds=tls0,tls-hostname=localhost");
        [credentials, image]
    }
}

fn nbdinfo_protocol(secured: &Secured) -> Result<(), Failed> {
    let uri = secured.own_uri();
    let told: serde_json::Value = serde_json::from_str(&succeed("nbdinfo", &["--json", &uri])?)?;
    assert_eq!((&told["TLS"], &told["exports"][0]["export-size"]), (&true.into(), &SIZE.0.into()));
    assert!(told["structured"] == true || told["extended"] == true, "{told}");
    succeed("nbdinfo", &["--is", "tls", &uri])?;
    assert!(succeed("nbdinfo", &["--list", &uri])?.contains("disk"));
    Ok(())
}

fn refused(tool: &str, arguments: &[&str]) -> Result<String, Failed> {
    let output = output(tool, arguments)?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    // 124 is a client that waited for ever.
    assert!(!output.status.success() && output.status.code() != Some(124), "{tool}: {told}");
    Ok(told)
}

fn nbdinfo_without_certificate(secured: &Secured) -> Result<(), Failed> {
    let stranger = Certificates::new();
    std::fs::copy(secured.certificates.path("ca-cert.pem"), stranger.path("ca-cert.pem"))?;
    // It shows a certificate that somebody else has signed, and then none.
    refused("nbdinfo", &[&secured.uri(&stranger)])?;
    std::fs::remove_file(stranger.path("client-cert.pem"))?;
    std::fs::remove_file(stranger.path("client-key.pem"))?;
    refused("nbdinfo", &[&secured.uri(&stranger)])?;
    nbdinfo_protocol(secured)
}

fn nbdinfo_wrong_authority(secured: &Secured) -> Result<(), Failed> {
    let told = refused("nbdinfo", &[&secured.uri(&Certificates::new())])?;
    // On a UNIX socket libnbd has no host name to compare, and does not look at the certificate: it is the server that
    // refuses then.
    assert!(told.contains("certificate") || secured.rig.uri.contains("unix"), "{told}");
    nbdinfo_protocol(secured)
}

fn nbdinfo_plain(secured: &Secured) -> Result<(), Failed> {
    refused("nbdinfo", &[&secured.rig.uri])?;
    Ok(())
}

fn nbdinfo_not_offered(_: &Secured) -> Result<(), Failed> {
    let (off, certificates) = (Rig::new(Family::Tcp, DiskOptions::default()), Certificates::new());
    let uri = off.uri.replacen("nbd", "nbds", 1);
    let uri = format!("{uri}?tls-certificates={}", text(certificates.directory()));
    refused("nbdinfo", &[&uri])?;
    Ok(())
}

fn nbdcopy_round_trip(secured: &Secured) -> Result<(), Failed> {
    let data = noise(usize::try_from(SIZE.0)?);
    let (there, back) = (secured.rig.dir.path().join("there"), secured.rig.dir.path().join("back"));
    std::fs::write(&there, &data)?;
    std::fs::write(&back, [])?;
    succeed("nbdcopy", &[text(&there), &secured.own_uri()])?;
    assert_eq!(secured.rig.disk.allocated(), SIZE);
    succeed("nbdcopy", &[&secured.own_uri(), text(&back)])?;
    assert!(std::fs::read(&back)? == data, "what came back differs");
    Ok(())
}

fn qemu_io_script(secured: &Secured) -> Result<(), Failed> {
    let [credentials, image] = secured.qemu(&secured.certificates);
    let mut arguments = vec!["--object", credentials.as_str(), "--image-opts", image.as_str()];
    arguments.extend(QEMU_IO_SCRIPT.iter().flat_map(|command| ["-c", command]));
    let stdout = succeed("qemu-io", &arguments)?;
    assert!(!stdout.contains("fail") && !stdout.contains("rror"), "{stdout}");
    Ok(())
}

fn qemu_img_convert(secured: &Secured) -> Result<(), Failed> {
    let [credentials, image] = secured.qemu(&secured.certificates);
    let source = secured.rig.dir.path().join("source");
    let data = noise(4 << 20);
    std::fs::write(&source, &data)?;
    let convert = ["convert", "-n", "-f", "raw", "--object", &credentials, "--target-image-opts"];
    succeed("qemu-img", &[&convert[..], &[text(&source), &image]].concat())?;
    let mut found = vec![0; data.len()];
    secured.rig.disk.snapshot().read(Bytes::ZERO, &mut found)?;
    assert!(found == data, "what was converted differs");
    let stranger = Certificates::new();
    let [credentials, image] = secured.qemu(&stranger);
    let told = refused("qemu-img", &["info", "--object", &credentials, "--image-opts", &image])?;
    // Each refuses the other. If the server is first, QEMU cannot send the rest of its handshake.
    assert!(told.contains("certificate") || told.contains("TLS handshake failed"), "{told}");
    Ok(())
}
