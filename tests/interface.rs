//! The interface and its pool, without a server. Apart from the unit tests: a process that is being started holds all
//! descriptors for a moment, and some of those tests look for the end of a pipe.

use std::sync::Arc;
use std::time::Duration;

use disttask::api::{Api, DoorConfig, Front, MAX_BODY_BYTES};
use disttask::ipc::{Backing, Form, Payload};
use disttask::pool::{
    Backlog, ForeignCursor, Keep, Lifetime, Manner, NewTask, PoolConfig, PoolError, RetentionLimits, Shared,
    SpawnSpec, Work,
};
use disttask::scheduler::types::{Shutdown, TaskSpec};

/// A pool whose workers never come up, which is enough to be looked at.
fn pool() -> Arc<Shared> {
    let spawn = SpawnSpec {
        executable: "/bin/sleep".into(),
        args: vec!["60".into()],
        env: Vec::new(),
        use_pidfd: true,
        backing: Backing::Memfd,
        capture: true,
        fds: Arc::default(),
    };
    let config = PoolConfig {
        workers: 1,
        spawn,
        config: Vec::new(),
        hello: Vec::new(),
        prefix: "run".into(),
        seed: 1,
        lifetime: Lifetime::default(),
        slow_starts: false,
        retention: RetentionLimits::default(),
        arena_bytes: 1 << 20,
        room_wait: Duration::from_secs(1),
    };
    Shared::start(config).expect("a pool")
}

fn end(pool: &Shared) {
    pool.shutdown(Shutdown::Now).expect("ours");
    assert!(pool.wait_gone(Duration::from_secs(10)), "a process is left");
}

fn api(pool: &Arc<Shared>) -> Api {
    let door = DoorConfig { hosts: Vec::new(), token: None, port: 1, tls: false, front: Front::Native };
    Api::new(Arc::clone(pool), &door, MAX_BODY_BYTES, "3.11".into())
}

#[test]
fn an_interface_that_was_stopped_is_told_of_nothing_more() {
    let pool = pool();
    let kept = api(&pool);
    for _ in 0..5 {
        api(&pool).stop();
    }
    assert_eq!(pool.sweep_on_finish(), 1, "one is at work");
    kept.stop();
    assert_eq!(pool.sweep_on_finish(), 0);
    end(&pool);
}

#[test]
fn cursors_name_their_run() {
    let pool = pool();
    assert_eq!(pool.parse_cursor(&pool.cursor_text(0)), Some(Ok(0)));
    assert_eq!(pool.parse_cursor("run.1"), Some(Err(ForeignCursor)), "nothing has finished");
    assert_eq!(pool.parse_cursor("other.0"), Some(Err(ForeignCursor)));
    for none in ["", "0", "run", "run.", ".0", "run.+0", "run.-1", "run.0x", "run.99999999999999999999999"] {
        assert_eq!(pool.parse_cursor(none), None, "{none}");
    }
    end(&pool);
}

#[test]
fn a_batch_is_refused_whole() {
    let pool = pool();
    let task = || NewTask {
        work: Work { form: Form::Whole, code: None, payload: Payload::copied(&[1]), needs: Box::default() },
        name: "f",
        spec: TaskSpec::default(),
        manner: Manner::default(),
    };
    let roomy = Backlog { tasks: 100, bytes: 100 };
    let tight = Backlog { tasks: 3, bytes: 100 };
    let ids = pool.submit_all(vec![task(), task()], Keep::ForEverybody, roomy).expect("accepted");
    assert_eq!(pool.submit_all(vec![task(), task()], Keep::ForEverybody, tight), Err(PoolError::Backlog));
    assert_eq!(ids.iter().map(|id| id.0).collect::<Vec<_>>(), [1, 2]);
    let tags = Some(Arc::new(vec!["x".repeat(60), "y".repeat(60)]));
    let tagged = NewTask { manner: Manner { tags, ..Manner::default() }, ..task() };
    let refused = pool.submit_all(vec![tagged], Keep::ForEverybody, roomy);
    assert_eq!(refused, Err(PoolError::Backlog), "tags take memory, too");
    end(&pool);
    assert!(pool.submit_all(vec![task(), task()], Keep::ForEverybody, roomy).is_err());
    assert_eq!(pool.status().totals.submitted, 2);
}
