//! Many threads, one arena.

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
