//! The arguments of `brim serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use brim_trial::Bytes;
use clap::{Args, ValueEnum};
use nbd_server::BlockSizes;

use super::{disk_size, seed};

#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("where").required(true).multiple(true).args(["unix", "listen", "stdio", "activated"]))]
pub(crate) struct Serve {
    /// Listen on a UNIX socket at this path
    #[arg(long, value_name = "PATH")]
    pub(crate) unix: Option<PathBuf>,
    /// Listen on TCP
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// What kind of disk it is: a profile by its name, or a file as in configs/devices/. Options given here go before it
    #[arg(long, value_name = "PROFILE")]
    pub(crate) config: Option<String>,
    /// The exact size of a disk, a multiple of 512 bytes: 1GiB, or a count of bytes
    #[arg(long, value_parser = disk_size)]
    pub(crate) size: Option<Bytes>,
    /// The name of an export, and of what size its disk is if not of --size; again for another disk. The first one is
    /// also what a client gets that names none
    #[arg(long, value_name = "NAME[=SIZE]", value_parser = export)]
    pub(crate) export: Vec<Export>,
    /// Refuse writes, trims and zeroes
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Tell clients that the disk is a rotational one
    #[arg(long)]
    pub(crate) rotational: bool,
    /// Give every disk a volatile write cache: only a flush or FUA makes what is written durable
    #[arg(long)]
    pub(crate) write_cache: bool,
    /// Write what changes the disk to a new file, in the format of dm-log-writes: see brim log. For one export
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// Take the orders of brim ctl on a UNIX socket at this path, while serving
    #[arg(long, value_name = "PATH")]
    pub(crate) control: Option<PathBuf>,
    /// What faults draw from, decimal or 0x…
    #[arg(long, default_value = "0", value_parser = seed)]
    pub(crate) seed: u64,
    /// Tell clients to keep to these block sizes, the last of which is the longest payload: 512, 4KiB,64KiB,1MiB
    #[arg(long, value_name = "MIN[,PREFERRED[,MAX]]", value_parser = block_sizes)]
    pub(crate) block_size: Option<BlockSizes>,
    /// What becomes of requests that do not keep to --block-size
    #[arg(long, value_name = "POLICY", default_value = "error", requires = "block_size")]
    pub(crate) block_size_policy: BlockSizePolicy,
    /// Whether clients may have TLS, or must
    #[arg(long, value_name = "MODE", default_value = "off", requires_ifs = [("on", "tls_certificates"), ("require", "tls_certificates")])]
    pub(crate) tls: TlsMode,
    /// Where server-cert.pem and server-key.pem are, and ca-cert.pem to verify clients by
    #[arg(long, value_name = "DIR", requires = "tls")]
    pub(crate) tls_certificates: Option<PathBuf>,
    /// Let in only clients with a certificate that ca-cert.pem has signed
    #[arg(long, requires = "tls_certificates")]
    pub(crate) tls_verify_peer: bool,
    /// Serve the one client whose socket is standard input, and end with it
    #[arg(long, conflicts_with_all = ["unix", "listen", "activated"])]
    pub(crate) stdio: bool,
    /// Listen on the sockets that systemd hands over, as to a unit with a socket
    #[arg(long)]
    pub(crate) activated: bool,
}

/// An export as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Export {
    pub(crate) name: String,
    /// Its own size.
    pub(crate) size: Option<Bytes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TlsMode {
    /// There is none
    Off,
    /// Clients may have it, or not
    On,
    /// Clients get nothing without it
    Require,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BlockSizePolicy {
    /// They fail with EINVAL
    Error,
    /// They are served like others
    Allow,
}

/// A size is behind the last `=`, since a name may have one too.
fn export(text: &str) -> Result<Export, String> {
    let Some((name, size)) = text.rsplit_once('=') else {
        return Ok(Export { name: text.to_owned(), size: None });
    };
    let size = disk_size(size).map_err(|error| format!("behind the last `=` is the size: {error}"))?;
    Ok(Export { name: name.to_owned(), size: Some(size) })
}

/// What is not given is what NBD has where nothing was agreed upon, or the next larger that goes with the others.
fn block_sizes(text: &str) -> Result<BlockSizes, String> {
    let mut sizes = text.split(',').map(|size| {
        let size = disk_size(size.trim())?;
        u32::try_from(size.0).map_err(|_| format!("{size} is no block size"))
    });
    let usual = BlockSizes::default();
    let minimum = sizes.next().unwrap_or(Ok(usual.minimum))?;
    let preferred = sizes.next().unwrap_or(Ok(usual.preferred.max(minimum)))?;
    let maximum = sizes.next().unwrap_or(Ok(usual.maximum.max(preferred)))?;
    if sizes.next().is_some() {
        return Err("it takes MIN, MIN,PREFERRED or MIN,PREFERRED,MAX".to_owned());
    }
    let sizes = BlockSizes { minimum, preferred, maximum };
    sizes.check().map_err(|error| error.to_string())?;
    Ok(sizes)
}
