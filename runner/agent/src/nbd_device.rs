//! The kernel's own NBD client as a block device: given a connected stream, asked by generic netlink.
//!
//! It gets exactly one connection and no timeout. Of several connections nbd.ko takes one for dead whose server holds a request,
//! and sends the request again on another; with a timeout it drops the only one, and the request fails (drivers/block/nbd.c,
//! v6.1, `nbd_xmit_timeout`). What the server answers with an error is `EIO` here, whatever the error is.

mod netlink;

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use brim_trial::Bytes;
use rustix::io::{self, Errno};

use crate::Failure;
use crate::device::Node;
use crate::failure::Trying;
use netlink::{Attribute, Generic};

// include/uapi/linux/nbd-netlink.h, v6.1.
const FAMILY: &str = "nbd";
const VERSION: u8 = 1;
const CMD_CONNECT: u8 = 1;
const CMD_DISCONNECT: u8 = 2;
const CMD_RECONFIGURE: u8 = 3;
const ATTR_INDEX: u16 = 1;
const ATTR_SIZE_BYTES: u16 = 2;
const ATTR_BLOCK_SIZE_BYTES: u16 = 3;
const ATTR_SERVER_FLAGS: u16 = 5;
const ATTR_CLIENT_FLAGS: u16 = 6;
const ATTR_SOCKETS: u16 = 7;
const SOCK_ITEM: u16 = 1;
const SOCK_FD: u16 = 1;
/// `NBD_CFLAG_DISCONNECT_ON_CLOSE` (include/uapi/linux/nbd.h, v6.1): the device goes away at its last close.
const DISCONNECT_ON_CLOSE: u64 = 1 << 1;

/// How long somebody else may keep a device open that is to go away: udev looks at it for milliseconds.
const FREE_LIMIT: Duration = Duration::from_secs(10);
const FREE_POLL: Duration = Duration::from_millis(1);

/// What the kernel is told of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NbdSettings {
    /// Its size.
    pub size: Bytes,
    /// The logical block size: a power of two from 512 to 4096 bytes.
    pub block_size: u32,
    /// The transmission flags that the server told (`NBD_FLAG_*`): what is missing here, the kernel never sends.
    pub flags: u16,
}

/// An nbd device that is ours. While this is alive the device is; dropped, it is disconnected. When this process is killed it
/// goes away at the last unmount.
#[derive(Debug)]
pub struct NbdDevice {
    node: Node,
    client: Client,
    /// What the kernel calls the connection. A later one on the same index has another.
    pid: String,
    connected: AtomicBool,
}

impl NbdDevice {
    /// Gives the kernel a connected UNIX or TCP stream on which everything up to the transmission phase was said, with simple
    /// replies: nbd.ko knows no others. The kernel picks the index.
    ///
    /// # Errors
    /// There is no nbd driver, it has no free device, or it refuses the stream or the settings.
    pub fn connect(stream: impl Into<OwnedFd>, settings: &NbdSettings) -> Result<Self, Failure> {
        let attach = || "attach the disk by nbd".to_owned();
        if !settings.block_size.is_power_of_two() || !(512..=4096).contains(&settings.block_size) {
            let why = format!(
                "a logical block size of {} bytes, not a power of two from 512 to 4096",
                settings.block_size
            );
            return Err(Failure::new(attach(), why).refused());
        }
        let family = netlink::family(FAMILY).trying(attach)?.ok_or_else(|| {
            Failure::new(attach(), "the kernel has no nbd driver, or it is not loaded")
                .with_help("load the nbd driver: `modprobe nbd max_part=0`")
        })?;
        // The kernel has a reference of its own then: ours is closed at the end of this function.
        let client = Client::connect(family, &stream.into(), settings).trying(attach)?;
        Self::open(client).inspect_err(|_| {
            // The failure that is told says more than this one.
            let _ = client.disconnect();
        })
    }

    fn open(client: Client) -> Result<Self, Failure> {
        let name = client.name();
        let node = Node::open(&name)?;
        let pid = connection(&name)
            .ok_or_else(|| Failure::new(format!("attach {}", node.path()), "it has gone"))?;
        // Only now that it is open: whoever looks at new devices may have closed it already.
        client
            .set_disconnect_on_close(true)
            .trying(|| format!("have {} go away at its last close", node.path()))?;
        Ok(Self { node, client, pid, connected: AtomicBool::new(true) })
    }

    /// Its path: `/dev/nbd3`.
    #[must_use]
    pub fn path(&self) -> &str {
        self.node.path()
    }

    /// Its name: `nbd3`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.node.name()
    }

    /// The device itself.
    pub(crate) const fn node(&self) -> &Node {
        &self.node
    }

    /// Tells the kernel the disk's new size, and says what it is now by the kernel's account.
    ///
    /// Newer kernels (6.12.101 and 7.2.7; not 5.10.46 and 6.1.176) first wait until every request is answered, and start none
    /// until then. While the server holds one this does not return, and [`Self::cut`] waits too: open the gates first.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn resize(&self, size: Bytes) -> Result<Bytes, Failure> {
        let resized = self.client.reconfigure(vec![Attribute::of_u64(ATTR_SIZE_BYTES, size.0)]);
        resized.trying(|| format!("tell {} its new size", self.path()))?;
        self.size()
    }

    /// Its size by the kernel's account.
    ///
    /// # Errors
    /// /sys does not say.
    pub fn size(&self) -> Result<Bytes, Failure> {
        self.node.size()
    }

    /// Forgets what the kernel has cached of the device.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn forget_cache(&self) -> Result<(), Failure> {
        self.node.forget_cache()
    }

    /// Has btrfs forget what it has seen on the device, which is about to be another.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn forget(&self) -> Result<(), Failure> {
        self.node.forget()
    }

    /// Takes the disk from under the kernel. Every request that the server has not answered fails with `EIO`, as does every
    /// later one, and the server sees the end of its stream. Only this ends requests whose server is gone: nbd.ko itself waits
    /// for their answers for ever. The device is free once nothing has it open any more.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn cut(&self) -> Result<(), Failure> {
        self.end().trying(|| format!("take the disk from {}", self.path()))
    }

    /// Takes the device away, and waits until the next disk can have it.
    ///
    /// # Errors
    /// The kernel refuses, or something else keeps the device open.
    pub fn disconnect(mut self) -> Result<(), Failure> {
        let forgotten = self.forget();
        if self.connected.load(Ordering::Acquire) {
            // As at any last close, what was written by way of the cache goes to the disk first. How that ends is its affair.
            let _ = self.forget_cache();
        }
        self.end().trying(|| format!("disconnect {}", self.path()))?;
        let (name, pid) = (self.name().to_owned(), std::mem::take(&mut self.pid));
        // Its own close is one that is waited for.
        drop(self);
        wait_until_free(&name, &pid)?;
        forgotten
    }

    fn end(&self) -> io::Result<()> {
        if !self.connected.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        // Or the kernel would say goodbye a second time at the close, and log that nobody listens: no more than that is at stake.
        let _ = self.client.set_disconnect_on_close(false);
        self.client.disconnect()
    }
}

impl Drop for NbdDevice {
    fn drop(&mut self) {
        // There is nobody to tell; as long as it is open the index is nobody else's.
        let _ = self.end();
    }
}

/// One connected index of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Client {
    family: u16,
    index: u32,
}

impl Client {
    fn connect(family: u16, stream: &OwnedFd, settings: &NbdSettings) -> io::Result<Self> {
        let answer = netlink::ask(&connect_request(family, stream, settings)?)?;
        let index = answer.and_then(|answer| answer.u32(ATTR_INDEX)).ok_or(Errno::BADMSG)?;
        Ok(Self { family, index })
    }

    fn name(self) -> String {
        format!("nbd{}", self.index)
    }

    fn set_disconnect_on_close(self, on: bool) -> io::Result<()> {
        self.reconfigure(vec![Attribute::of_u64(ATTR_CLIENT_FLAGS, if on { DISCONNECT_ON_CLOSE } else { 0 })])
    }

    fn reconfigure(self, attributes: Vec<Attribute>) -> io::Result<()> {
        self.ask(CMD_RECONFIGURE, attributes)
    }

    fn disconnect(self) -> io::Result<()> {
        self.ask(CMD_DISCONNECT, Vec::new())
    }

    fn ask(self, command: u8, mut attributes: Vec<Attribute>) -> io::Result<()> {
        attributes.insert(0, Attribute::of_u32(ATTR_INDEX, self.index));
        netlink::ask(&request(self.family, command, attributes)).map(drop)
    }
}

fn request(family: u16, command: u8, attributes: Vec<Attribute>) -> Generic {
    Generic { family, command, version: VERSION, attributes }
}

fn connect_request(family: u16, stream: &impl AsFd, settings: &NbdSettings) -> io::Result<Generic> {
    let stream = u32::try_from(stream.as_fd().as_raw_fd()).map_err(|_| Errno::BADF)?;
    let attributes = vec![
        Attribute::of_u64(ATTR_SIZE_BYTES, settings.size.0),
        Attribute::of_u64(ATTR_BLOCK_SIZE_BYTES, u64::from(settings.block_size)),
        Attribute::of_u64(ATTR_SERVER_FLAGS, u64::from(settings.flags)),
        Attribute::nested(
            ATTR_SOCKETS,
            &[Attribute::nested(SOCK_ITEM, &[Attribute::of_u32(SOCK_FD, stream)])],
        ),
    ];
    Ok(request(family, CMD_CONNECT, attributes))
}

/// What the kernel calls the connection of a device: the thread that made it. There is no such file while the device is free:
/// it goes last (drivers/block/nbd.c, v6.1, `nbd_config_put`), and only when the last that had the device open has closed it.
fn connection(name: &str) -> Option<String> {
    fs::read_to_string(format!("/sys/block/{name}/pid")).ok()
}

fn wait_until_free(name: &str, pid: &str) -> Result<(), Failure> {
    let until = Instant::now() + FREE_LIMIT;
    while connection(name).is_some_and(|now| now == pid) {
        if Instant::now() >= until {
            let failure = Failure::new(format!("disconnect /dev/{name}"), "something else has it open");
            return Err(failure.with_help(format!("see what it is: `fuser -vm /dev/{name}`")));
        }
        thread::sleep(FREE_POLL);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_size_no_kernel_takes_is_refused_with_it() {
        for block_size in [0, 256, 1000, 8192] {
            let (stream, _server) = std::os::unix::net::UnixStream::pair().unwrap();
            let settings = NbdSettings { size: Bytes(1 << 20), block_size, flags: 1 };
            let failure = NbdDevice::connect(stream, &settings).unwrap_err();
            assert!(failure.refused && failure.why.contains(&format!(" {block_size} bytes")), "{failure}");
        }
    }
}
