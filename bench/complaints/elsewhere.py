"""Where another is the better choice: kept by hand, for no complaint in the table shows it."""

INTRO = """\
## Where another is the better choice

The table is of complaints, and disttask was worked on until it passed them all; where it was red, it was mended. So the
table cannot show what disttask does not do:
"""

NEEDS = [
    ("macOS or Windows", "PPE, joblib and loky, Dask", "Linux only: elsewhere `import disttask` is an `ImportError`"),
    ("nothing to install", "PPE, `multiprocessing.Pool`", "a compiled extension, built from source with Rust"),
    ("years of use by many", "all of the others", "0.1.0, not released yet"),
    ("workers on several machines", "Ray, Dask", "on one; clients can be elsewhere"),
    (
        "a queue that survives its server; schedules, rate limits, routing",
        "Celery with a broker",
        "a server's queue and results are in its memory, and end with it; none of the rest",
    ),
    (
        "what the parent has in memory, in workers, without pickling or copies",
        "PPE, `multiprocessing.Pool`, mpire (`shared_objects`), by forking",
        "fresh interpreters: an initializer loads it in each, or `put` pickles it once and each task gets a copy "
        "(row 20)",
    ),
    (
        "one large array that all workers look at, and nobody copies",
        "joblib (it maps arrays into memory), Ray (its object store)",
        "a copy for each task",
    ),
    (
        "results kept on disk from one run to the next",
        "joblib (`Memory`)",
        "in memory, for an hour, in the process that ran the tasks",
    ),
    (
        "a pool for a job of a few milliseconds",
        "PPE with forked workers",
        'an interpreter starts more slowly than a fork ([benchmarks](benchmarks.md), "first result")',
    ),
    (
        "workers that leave when there is nothing to do",
        "loky (`timeout`)",
        "they stay until the executor ends, or somebody calls `resize`",
    ),
    (
        "work that lets go of the GIL: waiting for networks and disks, much of NumPy",
        "`ThreadPoolExecutor`, asyncio: nothing is pickled",
        "processes",
    ),
]
"""What somebody may need, who has it, and what there is of it here."""


def elsewhere() -> list[str]:
    """The section, by lines."""
    rows = [f"| {need} | {who} | {ours} |" for need, who, ours in NEEDS]
    return ["", INTRO, "| what you need | what has it | disttask |", "|---|---|---|", *rows]
