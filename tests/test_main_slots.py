"""Classes of ``__main__`` keep their slots: they are in a worker what plain pickle makes of an imported class."""

SLOTS = """
import abc, collections, pickle, typing, weakref
from dataclasses import dataclass, field
import disttask, by_value_tasks

T = typing.TypeVar("T")

class Base:
    __slots__ = ("base",)

class Plain(Base):
    __slots__ = ["a"]

class Word(Base):
    __slots__ = "a"

class Private:
    __slots__ = ("__x", "a")
    def set(self, x):
        self.__x = x
        return self
    def get(self):
        return self.__x

class PrivateWord:
    __slots__ = "__x"
    set, get = Private.set, Private.get
    def set(self, x):
        self.__x = x
        return self
    def get(self):
        return self.__x

class AbstractWord(abc.ABC):
    __slots__ = "__x"
    def set(self, x):
        self.__x = x
        return self
    def get(self):
        return self.__x

AbstractWord.register(int)

class Weak:
    __slots__ = ("a", "__weakref__")

class Own:
    __slots__ = ("a", "__dict__", "__weakref__")

class Documented:
    __slots__ = {"a": "what it is", "b": "another"}

class Empty(tuple):
    __slots__ = ()

class Point(typing.NamedTuple):
    x: int
    y: int = 0

Old = collections.namedtuple("Old", "x y")

class Open(Plain):
    pass

class Generic(typing.Generic[T]):
    __slots__ = ("a",)

@dataclass(slots=True)
class Data:
    a: int
    more: list = field(default_factory=list)
    c: int = 5

@dataclass(slots=True)
class SubData(Data):
    d: int = 6

@dataclass(slots=True, weakref_slot=True)
class WeakData:
    a: int = 1

@dataclass(slots=True, frozen=True)
class Frozen:
    a: int
    b: tuple = ()

@dataclass(slots=True)
class GenericData(typing.Generic[T]):
    a: T

class Default:
    def __init__(self, slot, default):
        self.slot, self.default = slot, default
    def __get__(self, instance, owner):
        if instance is None:
            return self
        try:
            return self.slot.__get__(instance, owner)
        except AttributeError:
            return self.default
    def __set__(self, instance, value):
        self.slot.__set__(instance, value)

class Defaults:
    __slots__ = ("a", "b")

Defaults.a = Default(Defaults.a, 5)

class Later:
    a = 1

Later.__slots__ = ("a",)

class Iterated:
    __slots__ = iter(("a", "__b"))
    def __reduce__(self):
        return iterated, (self.a, self.__b)
    def set(self, a, b):
        self.a, self.__b = a, b
        return self
    def get(self):
        return self.a, self.__b

def iterated(a, b):
    return Iterated().set(a, b)

class Meta(type):
    def __new__(meta, name, bases, namespace):
        namespace.setdefault("__slots__", ("a",))
        return super().__new__(meta, name, bases, namespace)

class Made(metaclass=Meta):
    pass

class Error(Exception):
    __slots__ = ("code",)

def made(cls, *args, **state):
    instance = cls.__new__(cls, *args)
    for name, value in state.items():
        object.__setattr__(instance, name, value)
    return instance

def refuses(instance, name="typo"):
    try:
        setattr(instance, name, 3)
    except (AttributeError, TypeError):  # frozen dataclasses with slots have raised TypeError
        return True
    return False

def state(instance):
    return {name: getattr(instance, name) for name in ("base", "a", "b", "c", "d", "more") if hasattr(instance, name)}

def there(instance):
    return state(instance), refuses(instance), hasattr(instance, "__dict__"), type(instance).__slots__, instance

def check(make, closed=True):
    mine = make()
    found, closed_there, has_dict, slots, back = executor.submit(there, mine).result()
    assert found == state(mine) == state(back) and type(back) is type(mine), (found, state(mine), state(back))
    assert closed_there == closed and has_dict == hasattr(mine, "__dict__"), (type(mine), closed_there, has_dict)
    assert slots == type(mine).__slots__, slots
    fresh = executor.submit(make).result()
    assert type(fresh) is type(mine) and state(fresh) == state(mine)
    assert type(executor.submit(by_value_tasks.call, make).result()) is type(mine)

executor = disttask.Executor(1)
for _ in range(2):
    for cls in Plain, Word:
        check(lambda: made(cls, base=1, a=2))
    for cls in Weak, Documented, Generic, GenericData, Made, Defaults, WeakData:
        check(lambda: made(cls, a=2))
    check(lambda: made(Empty, (1, 2)))
    check(lambda: Point(1))
    check(lambda: Old(1, 2))
    check(lambda: made(Open, base=1, a=2), closed=False)
    check(lambda: made(Own, a=2), closed=False)
    check(lambda: made(Later, a=2), closed=False)
    check(lambda: Data(1, [2]))
    check(lambda: SubData(1, d=7))
    check(lambda: Frozen(1, (2,)))
    check(Defaults)
    assert refuses(Frozen(1), "a") and executor.submit(lambda: refuses(Frozen(1), "a")).result()
    for cls in Private, PrivateWord, AbstractWord:
        check(lambda: cls().set(1))
        assert executor.submit(lambda: cls().set(4)).result().get() == 4
        assert executor.submit(lambda x: x.get(), cls().set(5)).result() == 5
    assert executor.submit(isinstance, 1, AbstractWord).result()
    assert executor.submit(lambda: made(Own, x=1)).result().x == 1
    assert executor.submit(lambda: weakref.ref(kept := Weak())() is kept).result()
    assert executor.submit(lambda: weakref.ref(kept := WeakData())() is kept).result()
    assert executor.submit(Iterated().set(1, 2).get).result() == (1, 2)
    assert executor.submit(iterated, 1, 2).result().get() == (1, 2)
    assert executor.submit(lambda: refuses(Iterated())).result()
    assert executor.submit(lambda: Default(None, 1).default).result() == 1
    assert type(executor.submit(Error).result()) is Error

def defined():
    class Local:
        __slots__ = ("a", "__b")
    return made(Local, a=1)

back = executor.submit(defined).result()
assert back.a == 1 and refuses(back)
"""


def test_classes_keep_their_slots(run_script):
    run_script(SLOTS)
