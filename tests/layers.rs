//! The architecture as a test: who may import whom, where `unsafe` may stand, what the pure core may name.

use std::fs;
use std::path::{Path, PathBuf};

/// Each room of `src/`, and the rooms it may import. Arrows point down only; a room not listed here fails.
const LAYERS: &[(&str, &[&str])] = &[
    ("scheduler", &[]),
    ("simulation", &["scheduler"]),
    ("ipc", &["scheduler"]),
    ("supervisor", &["ipc"]),
    ("worker", &["ipc"]),
    ("pool", &["scheduler", "ipc", "supervisor"]),
    ("api", &["pool", "scheduler", "ipc"]),
    ("bindings", &["api", "pool", "worker", "scheduler", "supervisor", "ipc"]),
];

/// Of a room further down, the only part that this room may name: its types, not its workings.
const TYPES_ONLY: &[(&str, &str, &str)] =
    &[("ipc", "scheduler", "scheduler::types"), ("api", "scheduler", "scheduler::types")];

/// Names that have no place in the pure core, with what to use instead.
const IMPURE: &[(&str, &str)] = &[
    ("std::time::Instant", "a `Time` that is passed in"),
    ("SystemTime", "a `Time` that is passed in"),
    ("std::thread", "facts and actions"),
    ("std::sync", "facts and actions: the pool owns the lock"),
    ("std::net", "facts and actions"),
    ("std::fs", "facts and actions"),
    ("std::env", "a parameter"),
    ("std::process", "facts and actions"),
    ("std::io", "facts and actions"),
    ("std::os", "facts and actions"),
    ("println!", "a getter"),
    ("rand::", "`Rng`, seeded from outside"),
    ("RandomState", "`TaskMap`"),
    ("pyo3", "nothing: Python is four layers up"),
    ("rustix", "facts and actions"),
    ("libc", "facts and actions"),
    ("parking_lot", "facts and actions: the pool owns the lock"),
    ("crossbeam", "facts and actions"),
    ("unsafe", "src/ipc/"),
];

/// Where the interpreter's interface hands out bare pointers (buffers, the garbage collector): the only other places with
/// `unsafe`.
const INTERPRETERS: &[&str] = &["bindings/buffer.rs", "bindings/tracking.rs"];

/// The longest a file may be before it wants a wall.
const MAX_LINES: usize = 400;

struct Source {
    path: PathBuf,
    room: String,
    /// Without comments and string literals' contents being told apart: good enough for names.
    code: String,
    lines: usize,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src is readable") {
            let path = entry.expect("src is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(source(&root, path));
            }
        }
    }
    assert!(found.len() > 20, "only {} source files found: is the walk broken?", found.len());
    found
}

fn source(root: &Path, path: PathBuf) -> Source {
    let text = fs::read_to_string(&path).expect("a source file is readable");
    let below = path.strip_prefix(root).expect("below src");
    let first = below.components().next().expect("not empty").as_os_str().to_string_lossy();
    let code = text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    Source { room: first.trim_end_matches(".rs").to_owned(), lines: text.lines().count(), code, path }
}

/// Every `crate::a::b` in the code, grouped imports (`crate::{a, b}`) included.
fn crate_paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for rest in code.split("crate::").skip(1) {
        if let Some(group) = rest.strip_prefix('{') {
            let group = group.split('}').next().unwrap_or("");
            paths.extend(group.split(',').map(|path| path.trim().to_owned()));
        } else {
            let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            paths.push(rest.chars().take_while(|&c| is_path(c)).collect());
        }
    }
    paths
}

#[test]
fn arrows_point_down_only() {
    let mut arrows = 0;
    for source in sources().iter().filter(|source| source.room != "lib") {
        let (_, allowed) = LAYERS
            .iter()
            .find(|(room, _)| *room == source.room)
            .unwrap_or_else(|| panic!("{}: a room that LAYERS does not know", source.path.display()));
        for path in crate_paths(&source.code) {
            let target = path.split("::").next().unwrap_or("");
            let known = LAYERS.iter().any(|(room, _)| *room == target);
            if !known || target == source.room {
                continue;
            }
            arrows += 1;
            assert!(
                allowed.contains(&target),
                "{}: `crate::{path}` points up or sideways",
                source.path.display()
            );
            for (_, _, only) in
                TYPES_ONLY.iter().filter(|(room, of, _)| *room == source.room && *of == target)
            {
                assert!(
                    path.starts_with(only),
                    "{}: `crate::{path}`; only {only} may be named",
                    source.path.display()
                );
            }
        }
    }
    assert!(arrows > 20, "only {arrows} imports found: is the reading broken?");
}

#[test]
fn the_scheduler_is_pure() {
    let sources = sources();
    let core: Vec<_> = sources.iter().filter(|source| source.room == "scheduler").collect();
    assert!(core.len() > 5);
    for source in core {
        for (name, instead) in IMPURE {
            assert!(
                !source.code.contains(name),
                "{}: `{name}` is not for the pure core; use {instead}",
                source.path.display()
            );
        }
    }
}

#[test]
fn unsafe_lives_in_ipc() {
    let mut seen = 0;
    for source in sources() {
        let count = source.code.matches("unsafe {").count()
            + source.code.matches("unsafe impl").count()
            + source.code.matches("unsafe fn").count()
            + source.code.matches("allow(unsafe_code)").count();
        if source.room == "ipc" {
            seen += count;
        } else if !INTERPRETERS.iter().any(|path| source.path.ends_with(path)) {
            assert_eq!(count, 0, "{}: unsafe belongs in src/ipc/", source.path.display());
        }
    }
    assert!(seen > 0, "no unsafe found in src/ipc/: is the reading broken?");
}

#[test]
fn pyo3_lives_in_bindings() {
    for source in sources().iter().filter(|source| !["bindings", "lib"].contains(&source.room.as_str())) {
        assert!(!source.code.contains("pyo3"), "{}: pyo3 belongs in src/bindings/", source.path.display());
    }
}

#[test]
fn files_stay_short() {
    for source in sources() {
        assert!(
            source.lines <= MAX_LINES,
            "{}: {} lines; find the wall",
            source.path.display(),
            source.lines
        );
    }
}
