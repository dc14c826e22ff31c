//! Copying much memory. A copy that is larger than the caches only pushes everything else out of them, and reads each line of
//! the target for nothing before it is overwritten: non-temporal stores do neither.
#![allow(unsafe_code)]

/// From this size on non-temporal stores win; below it the receiver finds the bytes in a cache.
const STREAMED_BYTES: usize = 4 << 20;

/// Copy `bytes` bytes.
///
/// # Safety
/// Both ranges are mapped and do not overlap, and nobody who matters writes to them meanwhile.
pub(super) unsafe fn copy(from: *const u8, to: *mut u8, bytes: usize) {
    if bytes >= STREAMED_BYTES {
        // SAFETY: as promised by the caller.
        unsafe { stream(from, to, bytes) };
    } else {
        // SAFETY: as promised by the caller.
        unsafe { std::ptr::copy_nonoverlapping(from, to, bytes) };
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(clippy::cast_ptr_alignment, reason = "loads are unaligned ones, and stores are aligned by `head`")]
unsafe fn stream(from: *const u8, to: *mut u8, bytes: usize) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
    const WIDTH: usize = 16;
    const LINE: usize = 4 * WIDTH;
    let head = to.align_offset(LINE).min(bytes);
    let lines = (bytes - head) / LINE;
    let tail = head + lines * LINE;
    // SAFETY: every access lies within the ranges that the caller vouches for; stores are aligned to 16 bytes since `to + head`
    // is aligned to 64; the fence makes them visible before anything that follows.
    unsafe {
        std::ptr::copy_nonoverlapping(from, to, head);
        let mut source = from.add(head);
        let mut target = to.add(head);
        for _ in 0..lines {
            let a = _mm_loadu_si128(source.cast::<__m128i>());
            let b = _mm_loadu_si128(source.add(WIDTH).cast());
            let c = _mm_loadu_si128(source.add(2 * WIDTH).cast());
            let d = _mm_loadu_si128(source.add(3 * WIDTH).cast());
            _mm_stream_si128(target.cast(), a);
            _mm_stream_si128(target.add(WIDTH).cast(), b);
            _mm_stream_si128(target.add(2 * WIDTH).cast(), c);
            _mm_stream_si128(target.add(3 * WIDTH).cast(), d);
            source = source.add(LINE);
            target = target.add(LINE);
        }
        _mm_sfence();
        std::ptr::copy_nonoverlapping(from.add(tail), to.add(tail), bytes - tail);
    }
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn stream(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: as promised by the caller.
    unsafe { std::ptr::copy_nonoverlapping(from, to, bytes) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_alignment_every_byte_arrives_and_no_other() {
        let bytes = STREAMED_BYTES + 1000;
        let source: Vec<u8> = (0..bytes + 64).map(|i| (i * 31 % 251) as u8).collect();
        for (shift_from, shift_to, length) in
            [(0, 0, bytes), (1, 0, bytes), (0, 3, bytes - 7), (5, 61, bytes - 1), (9, 1, 100)]
        {
            let mut target = vec![0xEE; bytes + 128];
            // SAFETY: both vectors are longer than shift and length.
            unsafe { copy(source.as_ptr().add(shift_from), target.as_mut_ptr().add(shift_to), length) };
            assert!(target[shift_to..shift_to + length] == source[shift_from..shift_from + length]);
            let outside = target[..shift_to].iter().chain(&target[shift_to + length..]);
            assert!(outside.copied().all(|byte| byte == 0xEE));
        }
    }
}
