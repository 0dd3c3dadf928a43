//! Memory for blocks: pages of 4 KiB with a count of their owners, cut from slabs that the kernel can back with huge
//! pages.
//!
//! A disk of gigabytes is read and written at random places, where a general allocator's blocks cost a walk of the page
//! tables each. A slab is 2 MiB of memory at a multiple of 2 MiB: what the kernel maps as one huge page (`MADV_HUGEPAGE`,
//! madvise(2)). Its first page is its header; the others are handed out one by one. A slab without a page in use gives
//! its memory back.

#![expect(
    unsafe_code,
    reason = "owners of one page are counted beside it, which Rust's own shared pointers cannot do, and memory is mapped"
)]

use std::alloc::{Layout, handle_alloc_error};
use std::fmt;
use std::hint::black_box;
use std::ops::Deref;
use std::process::abort;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

/// Bytes of a page.
pub(crate) const PAGE_LEN: usize = 4096;
/// Bytes of a slab, and what its address is a multiple of.
const SLAB_LEN: usize = 2 << 20;
/// Pages of a slab, its header included.
const SLAB_PAGES: usize = SLAB_LEN / PAGE_LEN;
/// Slabs that are mapped together.
const REGION_SLABS: usize = 32;
/// Slabs without a page in use that keep their memory for the next.
const WARM_MAX: usize = 8;
/// More owners than this are a leak of millions of forks.
const OWNERS_MAX: u32 = u32::MAX / 2;

/// What a page holds.
type Block = [u8; PAGE_LEN];

/// A page where it is.
#[repr(C, align(4096))]
struct Frame(Block);

/// The first page of a slab. Fresh memory, which is all zero, is a slab of which no page was ever handed out.
#[repr(C, align(4096))]
struct Header {
    /// Owners of each page.
    owners: [AtomicU32; SLAB_PAGES],
    /// Only the holder of the arena touches this.
    free: FreePages,
}

/// The free pages of a slab: those that were given back, and those from `fresh` on.
#[repr(C)]
struct FreePages {
    /// The page that was given back last.
    first: u16,
    /// The page that was given back before page `n`.
    next: [u16; SLAB_PAGES],
    /// Pages that were ever handed out, counted from page 1.
    fresh: u16,
    in_use: u16,
}

const _: () = assert!(size_of::<Header>() <= PAGE_LEN && SLAB_PAGES <= 1 << 15);

/// The slabs that have a free page, of all disks of the process. The others are known by their pages.
struct Arena {
    partial: Vec<Slab>,
    /// Slabs without a page in use that have kept their memory.
    warm: usize,
}

/// A mapped slab.
#[derive(Clone, Copy)]
struct Slab(NonNull<Header>);

// SAFETY: slabs are memory of the process that stays mapped, and what the pointers lead to is only touched under the lock
// around the arena (`free`) or is atomic (`owners`).
unsafe impl Send for Arena {}

static ARENA: Mutex<Arena> = Mutex::new(Arena { partial: Vec::new(), warm: 0 });

/// One owner's hold on a page of memory. Clones own the same page; the page is given back with its last owner.
pub struct Page(NonNull<Frame>);

// SAFETY: a page is plain bytes; they change only through `get_mut`, which needs the one owner there is, and owners are
// counted atomically.
unsafe impl Send for Page {}
// SAFETY: as for `Send`: a shared `Page` only reads.
unsafe impl Sync for Page {}

impl Page {
    /// Bytes of a page.
    pub const LEN: usize = PAGE_LEN;

    /// A page for somebody who overwrites what is to be read of it: it has whatever its memory was used for before.
    #[must_use]
    pub fn scratch() -> Self {
        arena().take()
    }

    /// A page of zeroes.
    pub(crate) fn zeroed() -> Self {
        let mut page = Self::scratch();
        page.sole_owners().fill(0);
        page
    }

    /// A page with this content.
    pub(crate) fn of(content: &Block) -> Self {
        let mut page = Self::scratch();
        *page.sole_owners() = *content;
        page
    }

    /// The content, to be changed, where nobody else owns the page.
    pub fn get_mut(&mut self) -> Option<&mut [u8; PAGE_LEN]> {
        self.has_one_owner().then(|| self.sole_owners())
    }

    /// The content, to be changed, of this page, or of a copy that takes its place where others own it too.
    pub(crate) fn make_mut(&mut self) -> &mut Block {
        if !self.has_one_owner() {
            *self = Self::of(self);
        }
        self.sole_owners()
    }

    /// Whether both own the same page, so that no look at the content is needed.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    /// Has the processor fetch the start of the content and the count of owners.
    pub(crate) fn prefetch(&self) {
        black_box((self[0], self.owners().load(Ordering::Relaxed)));
    }

    fn has_one_owner(&self) -> bool {
        // Nobody can add an owner but an owner. Acquire: those that have gone have done their reading before.
        self.owners().load(Ordering::Acquire) == 1
    }

    /// The content, for callers who know that there is one owner.
    fn sole_owners(&mut self) -> &mut Block {
        // SAFETY: the page is mapped and initialised while it has an owner; there is one, which `&mut self` borrows.
        unsafe { &mut self.0.as_mut().0 }
    }

    fn owners(&self) -> &AtomicU32 {
        let (slab, index) = self.place();
        // SAFETY: a header stays mapped, and while one of its pages is in use it is not given back. This field is only
        // ever borrowed shared.
        unsafe { &(&(*slab.0.as_ptr()).owners)[index] }
    }

    /// Its slab, and which page of it this is.
    fn place(&self) -> (Slab, usize) {
        let page = self.0.as_ptr();
        let header = page.map_addr(|address| address & !(SLAB_LEN - 1)).cast::<Header>();
        // SAFETY: no slab is at address 0, since the kernel maps nothing there (`vm.mmap_min_addr`).
        let slab = Slab(unsafe { NonNull::new_unchecked(header) });
        (slab, page.addr() % SLAB_LEN / PAGE_LEN)
    }
}

impl Deref for Page {
    type Target = Block;

    fn deref(&self) -> &Block {
        // SAFETY: the page is mapped and initialised while it has an owner, and does not change while this one is
        // borrowed: that takes `&mut` of the only owner.
        unsafe { &self.0.as_ref().0 }
    }
}

impl Clone for Page {
    fn clone(&self) -> Self {
        // Relaxed: the new owner comes from one that is there, as with any counted pointer.
        if self.owners().fetch_add(1, Ordering::Relaxed) > OWNERS_MAX {
            abort();
        }
        Self(self.0)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // Release and acquire: what the other owners did with it comes before what its next user does.
        if self.owners().fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            let (slab, index) = self.place();
            arena().give_back(slab, index);
        }
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("owners", self.owners()).finish_non_exhaustive()
    }
}

fn arena() -> MutexGuard<'static, Arena> {
    // The one panic under this lock is the assert of `Slab::page`, after which the slab has lost a page and nothing else.
    ARENA.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Arena {
    /// Hands out a free page, with one owner.
    fn take(&mut self) -> Page {
        if self.partial.is_empty() {
            self.map_region();
        }
        let Some(&slab) = self.partial.last() else {
            unreachable!("a region without slabs");
        };
        let free = self.free_pages(slab);
        let was_warm = free.in_use == 0 && free.fresh > 0;
        let index = free.take();
        if free.is_empty() {
            self.partial.pop();
        }
        // Memory that the kernel would not take back was not counted.
        self.warm = self.warm.saturating_sub(usize::from(was_warm));
        slab.page(usize::from(index))
    }

    /// Takes a page back that has no owner any more.
    fn give_back(&mut self, slab: Slab, index: usize) {
        let free = self.free_pages(slab);
        let was_full = free.is_empty();
        free.give_back(index);
        let is_unused = free.in_use == 0;
        if was_full {
            self.partial.push(slab);
        }
        if is_unused && self.warm == WARM_MAX {
            slab.give_memory_back();
        } else if is_unused {
            self.warm += 1;
        }
    }

    /// The free pages of a slab; `&mut self` says that the lock is held.
    #[expect(clippy::unused_self, reason = "it is what lends the pages")]
    fn free_pages(&mut self, slab: Slab) -> &mut FreePages {
        // SAFETY: a header stays mapped, and this field of it is borrowed nowhere else.
        unsafe { &mut (*slab.0.as_ptr()).free }
    }

    /// Maps new slabs. Memory is taken when they are used.
    fn map_region(&mut self) {
        // One more, since mappings are aligned to pages only.
        let len = (REGION_SLABS + 1) * SLAB_LEN;
        // SAFETY: a new private mapping at an address of the kernel's choice touches no memory that is there.
        let mapped = unsafe {
            mmap_anonymous(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        };
        let Ok(start) = mapped else {
            handle_alloc_error(Layout::new::<[Frame; SLAB_PAGES]>());
        };
        // SAFETY: the whole range was just mapped. A kernel without huge pages refuses, which costs nothing but speed.
        let _slower_without = unsafe { madvise(start, len, Advice::LinuxHugepage) };
        let first = start.map_addr(|address| address.next_multiple_of(SLAB_LEN));
        for index in 0..REGION_SLABS {
            let slab = first.wrapping_byte_add(index * SLAB_LEN).cast::<Header>();
            self.partial.extend(NonNull::new(slab).map(Slab));
        }
        // Used from the start of the region on.
        self.partial.reverse();
    }
}

impl FreePages {
    /// Whether no page is free.
    fn is_empty(&self) -> bool {
        usize::from(self.in_use) == SLAB_PAGES - 1
    }

    /// The index of a page that was free.
    fn take(&mut self) -> u16 {
        self.in_use += 1;
        if self.first == 0 {
            self.fresh += 1;
            return self.fresh;
        }
        let index = self.first;
        self.first = self.next[usize::from(index)];
        index
    }

    fn give_back(&mut self, index: usize) {
        self.next[index] = self.first;
        self.first = u16::try_from(index).unwrap_or_default();
        self.in_use -= 1;
    }
}

impl Slab {
    /// The page at `index`, which nobody owns yet.
    fn page(self, index: usize) -> Page {
        assert!((1..SLAB_PAGES).contains(&index), "page {index} of a slab of {SLAB_PAGES}");
        let page = self.0.as_ptr().cast::<Frame>().wrapping_add(index);
        // SAFETY: it is inside the slab, which does not wrap around.
        let page = Page(unsafe { NonNull::new_unchecked(page) });
        // Relaxed: the lock around the arena orders it after the last owner of before.
        page.owners().store(1, Ordering::Relaxed);
        page
    }

    /// Gives the memory of an unused slab back to the system; it is fresh afterwards.
    fn give_memory_back(self) {
        let start = self.0.as_ptr().cast();
        // SAFETY: no page of the slab has an owner and the arena is locked, so that nobody looks at this memory. It reads
        // as zeroes afterwards (madvise(2), MADV_DONTNEED), which is a valid header; if the kernel refuses, it is
        // unchanged, which is one as well.
        let _kept = unsafe { madvise(start, SLAB_LEN, Advice::LinuxDontNeed) };
    }
}
