//! The last of what somebody says, read by a thread as it comes, so that whoever speaks never waits.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// How much is kept.
const KEPT: usize = 64 << 10;

/// Reads to the end, and keeps the last 64 KiB.
#[derive(Debug)]
pub(super) struct Tail {
    kept: Arc<Mutex<VecDeque<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Tail {
    /// Reads `source` until it ends.
    pub(super) fn of(source: impl Read + Send + 'static) -> io::Result<Self> {
        let kept = Arc::default();
        let ours = Arc::clone(&kept);
        let thread =
            std::thread::Builder::new().name("tail".to_owned()).spawn(move || read(source, &ours))?;
        Ok(Self { kept, thread: Some(thread) })
    }

    /// What was said last.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(lock(&self.kept).make_contiguous()).into_owned()
    }

    /// Waits for the end, so that nothing is missing. To be called when the speaker is gone.
    pub(super) fn finish(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has kept what it could.
            let _ = thread.join();
        }
    }
}

fn read(mut source: impl Read, kept: &Mutex<VecDeque<u8>>) {
    let mut buffer = [0; 4096];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                let mut kept = lock(kept);
                kept.extend(buffer.iter().take(count));
                let over = kept.len().saturating_sub(KEPT);
                kept.drain(..over);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A socket pair with unread bytes on the other side ends this way.
            Err(_) => return,
        }
    }
}

fn lock(kept: &Mutex<VecDeque<u8>>) -> MutexGuard<'_, VecDeque<u8>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(said: Vec<u8>) -> String {
        let mut tail = Tail::of(io::Cursor::new(said)).unwrap();
        tail.finish();
        tail.text()
    }

    #[test]
    fn the_last_of_it_is_kept_and_no_more() {
        assert_eq!(tail(b"Kernel panic".to_vec()), "Kernel panic");
        let long: Vec<u8> = (0..100_000_u32).flat_map(|number| format!("{number}\n").into_bytes()).collect();
        let kept = tail(long.clone());
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept.as_bytes(), &long[long.len() - KEPT..]);
    }
}
