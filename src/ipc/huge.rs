//! Huge pages for memory that processes share. The processor keeps the addresses of few pages: what lies in large ones is
//! read faster on the other side, made faster, and given back faster.
//!
//! Memory files get such pages when the administrator lets them (`shmem_enabled`, which is `never` nearly everywhere), or
//! when a process asks for each part: madvise(2), `MADV_COLLAPSE`, since Linux 6.1. Measured, in 96 MB: filled for the first
//! time in 25 ms, this included, and in 62-90 in small pages; read on the other side in 6 ms instead of 12; given back in
//! 0.1 ms instead of 6.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ops::Range;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

/// The size of one where small pages have 4 KiB (x86-64, most of arm64). Where it is another, the kernel refuses.
pub(super) const PAGE: usize = 2 << 20;

/// The whole ones that lie within a part of a file.
pub(super) fn whole_ones(at: usize, bytes: usize) -> Range<usize> {
    at.next_multiple_of(PAGE)..(at + bytes) / PAGE * PAGE
}

/// Put huge pages in the place of small ones. `false` where the kernel has none to give, cannot (before 6.1), or is not to
/// (`shmem_enabled` at `deny`).
///
/// # Safety
/// The range is mapped.
pub(super) unsafe fn collapse(at: *mut u8, bytes: usize) -> bool {
    // SAFETY: mapped, as the caller promises; what it holds does not change.
    unsafe { libc::madvise(at.cast(), bytes, libc::MADV_COLLAPSE) == 0 }
}

/// Addresses for a mapping, until it is there. The kernel maps a huge page only where the address is a multiple of its size.
pub(super) struct Reserved {
    at: *mut c_void,
    bytes: usize,
}

impl Reserved {
    pub(super) fn new(bytes: usize) -> rustix::io::Result<Self> {
        let slack = if bytes < PAGE { 0 } else { PAGE };
        let bytes = bytes.checked_add(slack).ok_or(Errno::NOMEM)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let at =
            unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), bytes, ProtFlags::empty(), flags)? };
        Ok(Self { at, bytes })
    }

    /// What lies before the first address that fits.
    fn slack(&self) -> usize {
        if self.bytes < PAGE { 0 } else { self.at.addr().next_multiple_of(PAGE) - self.at.addr() }
    }

    pub(super) fn fit(&self) -> *mut c_void {
        self.at.wrapping_byte_add(self.slack())
    }

    /// So many bytes are a mapping of their own now: let go of what lies around them.
    pub(super) fn keep(self, bytes: usize) {
        let (before, end) = (self.slack(), self.slack() + bytes.next_multiple_of(super::arena::PAGE));
        // SAFETY: these addresses are ours, and nothing else is mapped there.
        unsafe {
            if before > 0 {
                let _ = rustix::mm::munmap(self.at, before);
            }
            if end < self.bytes {
                let _ = rustix::mm::munmap(self.at.wrapping_byte_add(end), self.bytes - end);
            }
        }
        std::mem::forget(self);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // SAFETY: ours, and nothing was mapped there.
        let _ = unsafe { rustix::mm::munmap(self.at, self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::shm::{Backing, Map, create};
    use super::*;

    const SMALL: usize = super::super::arena::PAGE;

    /// Of the mapping that begins here, in huge pages.
    fn huge_bytes(map: &Map) -> usize {
        let smaps = std::fs::read_to_string("/proc/self/smaps").expect("Linux");
        let head = format!("{:x}-", map.address(0, 1).addr());
        let mut mapping = smaps.lines().skip_while(|line| !line.starts_with(&head));
        let huge = mapping.find_map(|line| line.strip_prefix("ShmemPmdMapped:")).expect("a line");
        huge.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
    }

    #[test]
    fn what_is_said_to_be_in_huge_pages_is() {
        let bytes = 4 * PAGE;
        let file = create("disttask-test", bytes, Backing::Memfd).expect("a file");
        let (ours, theirs) = (Map::new(&file, bytes).expect("room"), Map::new(&file, bytes).expect("room"));
        assert_eq!(ours.address(0, 1).addr() % PAGE, 0);
        let neighbour = PAGE - SMALL;
        ours.write(neighbour, &[1; 8]);
        // Two whole ones lie in it, and a part of one at each end.
        let (at, length) = (PAGE - SMALL, 3 * PAGE);
        let is_huge = ours.make_huge(at, length);
        assert_eq!(huge_bytes(&ours), if is_huge { 2 * PAGE } else { 0 });
        theirs.write(2 * PAGE + 5, &[2; 8]);
        let mut seen = vec![0; bytes];
        ours.read(0, &mut seen);
        let written = seen.iter().enumerate().filter(|(_, byte)| **byte != 0);
        let expected = (neighbour..neighbour + 8).map(|at| (at, 1));
        let expected = expected.chain((2 * PAGE + 5..2 * PAGE + 13).map(|at| (at, 2)));
        assert!(written.map(|(at, &byte)| (at, byte)).eq(expected));
        assert!(!ours.make_huge(SMALL, PAGE), "no whole one lies in there");
    }

    #[test]
    fn a_mapping_begins_where_huge_pages_do_and_goes_as_a_whole() {
        let mapped = || {
            let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux");
            maps.lines().filter(|line| line.contains("disttask-slack")).count()
        };
        let file = create("disttask-slack", 3 * PAGE, Backing::Memfd).expect("a file");
        let map = Map::new(&file, 3 * PAGE).expect("room");
        assert_eq!(mapped(), 1);
        let reserved = Reserved::new(3 * PAGE).expect("addresses");
        let (before, start) = (reserved.at, reserved.fit());
        assert!(start.addr() - before.addr() < PAGE && start.addr().is_multiple_of(PAGE));
        drop((map, reserved));
        assert_eq!(mapped(), 0);
        assert!(Map::new(&file, 4 * PAGE).is_err(), "more than the file has");
    }
}
