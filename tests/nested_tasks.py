"""Functions for the workers of `test_nested_storms`: tasks that wait for tasks while they are interrupted."""

import concurrent.futures as cf
import os
import random
import select
import signal
import threading
import time
import traceback
import uuid
import zlib

import disttask
from tasks import log

DELAYS = (3e-6, 1e-3)
"""Seconds to a signal: from the midst of a single call to behind a whole nested task."""

ARRAY = 30_000
"""Numbers in an array: 240 kB, so four pieces."""

PATIENCE = 20
"""Seconds after which whoever still waits hangs."""


class Tick(BaseException):
    """As programs say that nobody is to catch it."""


class Late(Exception):
    """As most time limits say it."""


RAISED = {kind.__name__: kind for kind in (Tick, Late, KeyboardInterrupt)}
"""What signal handlers raise."""


def handle(kind):
    def handler(*_):
        raise kind

    signal.signal(signal.SIGALRM, handler)


def end_timer():
    """When it returns, no signal is on its way.

    Up to Python 3.12 a thread that takes the GIL adds up what there is to look for, and stores the sum. A signal
    between the two is overlooked until the GIL is taken again, or some call looks of itself: so it is taken here again.
    """
    signal.setitimer(signal.ITIMER_REAL, 0)
    take_gil()


def take_gil():
    """Give it back first. `time.sleep` does that, too, and takes 50 µs."""
    select.select([], [], [], 0)


# --- nested tasks: each says in a file that it has begun --------------------------------------------------------------


def square(path, number):
    log(path, number)
    return number * number


def refuse(path, number):
    log(path, number)
    raise ValueError(number)


def array(path, number):
    import numpy as np

    log(path, number)
    return np.full(ARRAY, number)


def doze(path, number):
    log(path, number)
    time.sleep(0.0005)
    return number * number


KINDS = (square, square, refuse, array, doze)


def is_right(kind, number, value):
    if kind is array:
        return value.shape == (ARRAY,) and bool((value == number).all())
    return value == number * number


# --- raising signals -----------------------------------------------------------------------------------------------


class Storm:
    """One outer task's: it submits, and waits under a timer whose signal raises."""

    def __init__(self, seed, path, raised):
        handle(raised)
        self._raised = raised
        self._dice = random.Random(seed)
        self._path = path
        self._kept = []
        self.delays = DELAYS
        self.ticks = 0
        self.ends = {}
        """Number of a nested task: how it has ended, as seen here."""
        self.submitted = 0

    def interrupted(self, call, *args, **kwargs):
        """Call it under a timer. Whether it came to its end."""
        low, high = self.delays
        delay = low * (high / low) ** self._dice.random()
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, delay)
                call(*args, **kwargs)
            finally:
                end_timer()
        except self._raised:
            self.ticks += 1
            self.disarm()
            return False
        except (ValueError, cf.CancelledError):
            pass
        return True

    def disarm(self):
        while True:
            try:
                end_timer()
                return
            except self._raised:
                pass

    def step(self):
        number, kind = self.submitted, self._dice.choice(KINDS)
        self.submitted += 1
        future = disttask.submit(kind, self._path, number)
        self._kept.append((number, kind, future))
        if self._dice.random() < 0.3:
            time.sleep(0.0005)  # another worker, if there is one, may begin it
        for _ in range(self._dice.randrange(1, 4)):
            self.disturb(self._dice.choice(self._kept)[2])
        if self._dice.random() < 0.05:
            self.share()
        while len(self._kept) > 8:
            self.settle(*self._kept.pop(self._dice.randrange(len(self._kept))))

    def disturb(self, future):
        what = self._dice.randrange(8)
        if what < 4:
            self.interrupted(future.result, PATIENCE)
        elif what == 4:
            self.interrupted(future.exception, PATIENCE)
        elif what == 5:
            self.interrupted(cf.wait, [future for _, _, future in self._kept], PATIENCE)
        elif what == 6:
            self.interrupted(list, cf.as_completed([future for _, _, future in self._kept], PATIENCE))
        elif self._dice.random() < 0.3:
            self.interrupted(future.cancel)
        else:
            self.interrupted(future.done)

    def share(self):
        """Another thread waits for the same ones, and goes on when this one is driven out."""
        futures = [future for _, _, future in self._kept]
        ended = []

        def wait_for_all():
            done, pending = cf.wait(futures, PATIENCE)
            for future in futures:
                future.exception(PATIENCE) if not future.cancelled() else None
            ended.append((len(done), len(pending)))

        thread = threading.Thread(target=wait_for_all)
        thread.start()
        for _ in range(5):
            self.interrupted(self._dice.choice(futures).result, PATIENCE)
        thread.join(2 * PATIENCE)
        if ended != [(len(futures), 0)]:
            raise AssertionError(f"the other thread saw {ended} of {len(futures)}")

    def settle(self, number, kind, future):
        """With no timer it must say how it has ended, and the same each time."""
        where = ""
        for _ in range(2):
            try:
                how = "value" if is_right(kind, number, future.result(PATIENCE)) else "wrong value"
            except ValueError as exc:
                how = "error" if kind is refuse and exc.args == (number,) else f"wrong error {exc!r}"
            except cf.CancelledError:
                how = "cancelled"
            except self._raised:
                how = "tick"  # the signal came while it ran here
                where = traceback.format_exc()
            except BaseException as exc:
                how = f"{type(exc).__name__}: {exc}"
            if self.ends.setdefault(number, how) != how:
                self.ends[number] = f"first {self.ends[number]}, then {how} {where}"

    def end(self):
        while self._kept:
            self.settle(*self._kept.pop())


def raising(seed, path, seconds, raised):
    """Ticks, and how each nested task ended."""
    storm = Storm(seed, path, RAISED[raised])
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        storm.step()
    storm.end()
    return storm.ticks, storm.ends


def claim_and_drop(path, count):
    """Waiting for each is broken off, at the worst moment if possible, and then nobody asks any more."""
    storm = Storm(count, path, Tick)
    kept = []
    for number in range(count):
        future = disttask.submit(square, path, number)
        storm.interrupted(future.result, PATIENCE)
        kept.append(future)
        kept[0].neighbours = kept  # a cycle: these futures are there until somebody collects garbage
    return storm.ticks


def overlooked(seconds):
    """Calls that give the GIL back until their signal has come: how many ticks, and how many came when all was over."""
    storm = Storm(0, None, Tick)
    storm.delays = (2e-5, 6e-5)  # most of them within the calls
    data = bytes(6000)  # of so many, `zlib` gives it back; and no system call makes the signal come at a better moment
    late = 0

    def call():
        while signal.getitimer(signal.ITIMER_REAL)[0]:
            zlib.crc32(data)

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        storm.interrupted(call)
        try:
            take_gil()
        except Tick:
            late += 1
    return storm.ticks, late


# --- death ---------------------------------------------------------------------------------------------------------


def dying(seed, path, rounds):
    """The timer's signal ends the process: no handler, no warning, in the midst of whatever it does."""
    dice = random.Random(f"{seed} {os.getpid()} {time.monotonic()}")
    attempt = uuid.uuid4().hex
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    if dice.random() < 0.6:
        signal.setitimer(signal.ITIMER_REAL, 10 ** dice.uniform(-5, -1.5))
    total, futures = 0, []
    for number in range(rounds):
        futures.append(disttask.submit(labelled, path, f"{attempt} {number}", number))
        if dice.random() < 0.5:
            total += futures.pop(dice.randrange(len(futures))).result(PATIENCE)
    total += sum(future.result(PATIENCE) for future in futures)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return total


def run_and_die(path, label):
    """What it has run itself has ended well, whether the host has heard of that or not."""
    disttask.submit(labelled, path, label, 1).result(PATIENCE)
    os.kill(os.getpid(), signal.SIGKILL)


def labelled(path, label, number):
    log(path, label)
    return number * number
