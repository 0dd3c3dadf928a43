//! The payload of a large write, received into the pages that become the disk's.

use std::io::IoSliceMut;

use brim_device::{AccessError, BLOCK, Bytes, Images, Page};

/// So many bytes for a place on a disk, page by page as the disk has them.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    pages: Vec<Page>,
    /// Where the first byte is in the first page.
    start: usize,
    len: usize,
    filled: usize,
}

impl Payload {
    /// Room for `len` bytes that go to `offset`.
    pub(crate) fn new(offset: Bytes, len: usize) -> Self {
        let start = Bytes(offset.0 % BLOCK.0).to_len().unwrap_or_default();
        Self { pages: Vec::new(), start, len, filled: 0 }
    }

    /// Bytes that have not arrived.
    pub(crate) fn missing(&self) -> usize {
        self.len - self.filled
    }

    /// The places of missing bytes, in order: of all, or of the first that `most` pages have.
    pub(crate) fn room(&mut self, most: usize) -> Vec<IoSliceMut<'_>> {
        let at = self.start + self.filled;
        let end = self.start + self.len;
        let (first, within) = (at / Page::LEN, at % Page::LEN);
        // Memory is taken for what is about to arrive, and not for what a header announces.
        let wanted = end.div_ceil(Page::LEN).min(first.saturating_add(most));
        let more = wanted.saturating_sub(self.pages.len());
        self.pages.extend(std::iter::repeat_with(Page::scratch).take(more));
        let pages = self.pages.iter_mut().enumerate().skip(first).take(most);
        let places = pages.map(|(index, page)| {
            let from = if index == first { within } else { 0 };
            let until = (end - index * Page::LEN).min(Page::LEN);
            let Some(content) = page.get_mut() else {
                unreachable!("page {index} of a payload under way has another owner");
            };
            IoSliceMut::new(&mut content[from..until])
        });
        places.collect()
    }

    /// So many more have arrived, in the first of [`Payload::room`].
    pub(crate) fn arrived(&mut self, count: usize) {
        self.filled += count.min(self.missing());
    }

    /// Takes missing bytes from `bytes`, and answers how many.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> usize {
        let bytes = &bytes[..bytes.len().min(self.missing())];
        let mut rest = bytes;
        for mut place in self.room(bytes.len() / Page::LEN + 2) {
            let (here, after) = rest.split_at(rest.len().min(place.len()));
            place[..here.len()].copy_from_slice(here);
            rest = after;
        }
        self.arrived(bytes.len());
        bytes.len()
    }

    /// Puts its first `len` bytes on a disk, at the place that it was made for: whole blocks without a copy.
    ///
    /// # Errors
    ///
    /// When they end past the disk; nothing is written then.
    pub(crate) fn write(&self, images: &mut Images, offset: Bytes, len: Bytes) -> Result<(), AccessError> {
        assert!(self.filled == self.len, "{} bytes of a payload of {}", self.filled, self.len);
        let len = len.min(Bytes::of_len(self.len));
        let end = self.start.saturating_add(len.to_len().unwrap_or(self.len));
        images.write_pages(offset, len, &self.pages[..end.div_ceil(Page::LEN)])
    }

    /// A copy of it in one piece.
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len);
        for (index, page) in self.pages.iter().enumerate() {
            let from = if index == 0 { self.start } else { 0 };
            let until = (self.start + self.len - index * Page::LEN).min(Page::LEN);
            bytes.extend_from_slice(&page[from..until]);
        }
        bytes
    }
}
