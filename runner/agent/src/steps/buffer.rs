//! Memory for what is read and written.

/// What direct I/O may ask of the place of its memory at most: a page.
const ALIGNMENT: usize = 4096;

/// Bytes that begin where direct I/O wants them to.
#[derive(Debug)]
pub(super) struct Buffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Buffer {
    /// So many zero bytes, `aligned` or anywhere.
    pub(super) fn new(length: u64, aligned: bool) -> Self {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let memory = vec![0; length.saturating_add(if aligned { ALIGNMENT } else { 0 })];
        let start = if aligned { memory.as_ptr().align_offset(ALIGNMENT) } else { 0 };
        Self { memory, start, length }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.memory.get(self.start..self.start + self.length).unwrap_or_default()
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.start..self.start + self.length).unwrap_or_default()
    }
}
