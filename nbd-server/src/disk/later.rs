//! Gives memory back while nobody waits for it: a million pages take tens of milliseconds.

use std::sync::LazyLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use brim_device::{Bytes, Images};

/// What frees this much may be felt.
pub(super) const FELT: Bytes = Bytes(16 << 20);

/// The thread that drops what it is sent; without one, where the system has no more threads, whoever sends does it.
static DROPPING: LazyLock<Option<Sender<Images>>> = LazyLock::new(|| {
    let (sender, receiver) = channel::<Images>();
    let thread = thread::Builder::new().name("nbd memory".to_owned());
    thread.spawn(move || receiver.into_iter().for_each(drop)).ok().map(|_| sender)
});

/// Lets go of what was held back, so that it is not freed under the disk's lock.
pub(super) fn let_go(images: Option<Images>) {
    if let (Some(images), Some(sender)) = (images, &*DROPPING) {
        // A thread that has gone hands it back, to be dropped here.
        let _dropped_here = sender.send(images);
    }
}
