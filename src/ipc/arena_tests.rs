//! Many threads, one arena.
#![allow(unsafe_code)]

use super::*;

/// Whoever finds room does not wait for files that are being made or emptied.
#[test]
fn slow_calls_hold_nobody_up() {
    let arena = Arena::new(Backing::Memfd, 64 << 20);
    let first = arena.take(100_000).expect("room");
    let slow = arena.growing.lock();
    let second = arena.take(100_000).expect("room in the same block");
    drop((first, second));
    drop(slow);
    assert_eq!(arena.inner.lock().used, 0);
}

/// Pages that go back to the system are nobody's.
#[test]
fn what_is_held_is_never_emptied() {
    const BYTES: usize = 300_000;
    let arena = Arena::new(Backing::Memfd, 64 << 20);
    std::thread::scope(|scope| {
        for mark in 1..4_u8 {
            let arena = &arena;
            scope.spawn(move || {
                for _ in 0..300 {
                    let Ok(range) = arena.take(BYTES) else { continue };
                    range.write(0, &vec![mark; BYTES]);
                    let mut copy = vec![0; BYTES];
                    range.read(&mut copy);
                    assert!(copy.iter().all(|&byte| byte == mark));
                }
            });
        }
        for _ in 0..300 {
            let _growing = arena.growing.lock();
            arena.give_pages_back();
        }
    });
    assert_eq!(arena.inner.lock().used, 0);
}

/// What is put into a pool stays, perhaps for ever, and with it whatever was made ready beside it.
#[test]
fn what_is_kept_has_nothing_made_ready_beside_it() {
    let touched = |purpose| {
        let arena = Arena::new(Backing::Memfd, 64 << 20);
        let range = arena.take_for(purpose, PREPARED_BYTES).expect("room");
        let touched = arena.inner.lock().blocks[0].ranges.touched();
        (range.len(), touched < 2 * PREPARED_BYTES)
    };
    assert_eq!(touched(Purpose::Passing), (PREPARED_BYTES, false));
    assert_eq!(touched(Purpose::Kept), (PREPARED_BYTES, true));
}

/// To find pages takes long, and ranges are handed out with locks held.
#[test]
fn pages_come_when_a_range_is_filled() {
    const BYTES: usize = 2 * PREPARED_BYTES;
    let data: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8).collect();
    for by_file in [false, true] {
        let arena = Arena::new(Backing::Memfd, 64 << 20);
        arena.without_huge.store(by_file, Ordering::Relaxed);
        let range = arena.take_for(Purpose::Kept, BYTES).expect("room");
        let resident = || {
            let blocks = rustix::fs::fstat(&range.block.file).expect("a file").st_blocks;
            usize::try_from(blocks).expect("some") * 512
        };
        assert_eq!(resident(), PAGE, "the lease's page alone");
        let (first, rest) = data.split_at(1000);
        range.write(0, first);
        // SAFETY: `rest` is readable, and nobody writes to it.
        unsafe { range.fill(1000, rest.as_ptr(), rest.len()) };
        assert_eq!(resident(), range.whole);
        let mut copy = vec![0; BYTES];
        range.read(&mut copy);
        assert!(copy == data);
    }
}
