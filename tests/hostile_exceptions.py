"""Exceptions and values whose class, or metaclass, gets in the way of whoever looks at them."""

import sys

import disttask


class ModuleRaises(type):
    @property
    def __module__(cls):
        raise ValueError("no module")


class ExitsWhenAsked(type):
    def __getattribute__(cls, name):
        raise SystemExit(3)


class AnswersNonsense(type):
    def __getattribute__(cls, name):
        return 7


class Refuses(type):
    def __instancecheck__(cls, instance):
        raise SystemExit

    __subclasscheck__ = __instancecheck__
    __eq__ = __instancecheck__

    def __hash__(cls):
        raise SystemExit


class ModuleOfMetaclassRaises(Exception, metaclass=ModuleRaises):
    pass


class MetaclassExits(Exception, metaclass=ExitsWhenAsked):
    pass


class MetaclassAnswersNonsense(Exception, metaclass=AnswersNonsense):
    pass


class MetaclassRefuses(Exception, metaclass=Refuses):
    pass


class ModuleIsAProperty(Exception):
    __module__ = property(lambda self: 1 / 0)


class ModuleIsANumber(Exception):
    __module__ = 5


def _exit(_self):
    raise SystemExit("a property")


class PropertiesExit(Exception):
    __traceback__ = __cause__ = __context__ = __notes__ = __class__ = args = property(_exit)


class AttributesExit(Exception):
    def __getattribute__(self, name):
        raise SystemExit(name)


class Text(str):
    """A string that does not want to be used."""

    __slots__ = ()

    def __len__(self):
        raise SystemExit

    __format__ = __getitem__ = encode = __radd__ = __eq__ = __len__
    __hash__ = str.__hash__

    def __str__(self):
        return self


class SaysOddText(Exception):
    def __str__(self):
        return Text("odd text")


class StrExits(Exception):
    def __str__(self):
        raise SystemExit

    __repr__ = __str__


class HasNoTruth(Exception):
    def __bool__(self):
        raise SystemExit

    __len__ = __eq__ = __bool__
    __hash__ = Exception.__hash__


class Noted(Exception):
    pass


class InterruptsWhenShown(BaseException):
    def __str__(self):
        raise KeyboardInterrupt


EXCEPTIONS = (
    ModuleOfMetaclassRaises,
    MetaclassExits,
    MetaclassAnswersNonsense,
    MetaclassRefuses,
    ModuleIsAProperty,
    ModuleIsANumber,
    PropertiesExit,
    AttributesExit,
    SaysOddText,
    StrExits,
    HasNoTruth,
    Noted,
    InterruptsWhenShown,
)


class _NeverPickled:
    def __reduce__(self):
        raise TypeError("never pickled")


class ResultOfModuleRaises(_NeverPickled, metaclass=ModuleRaises):
    pass


class ResultOfMetaclassExits(_NeverPickled, metaclass=ExitsWhenAsked):
    pass


class ResultThatInterrupts(_NeverPickled):
    __module__ = property(_exit)
    __class__ = property(_exit)


RESULTS = (ResultOfModuleRaises, ResultOfMetaclassExits, ResultThatInterrupts)


def own_name(kind):
    return type.__dict__["__qualname__"].__get__(kind)


def made(index):
    exc = BaseException.__new__(EXCEPTIONS[index])
    if EXCEPTIONS[index] is Noted:
        exc.__notes__ = [Text("odd note"), object()]
    return exc


def raise_it(index):
    raise made(index)


def raise_from_it(index):
    raise LookupError("raised from it") from made(index)


def return_it(index):
    return RESULTS[index]()


def raise_it_nested(index):
    return own_name(type(disttask.submit(raise_it, index).exception()))


def return_it_nested(index):
    return own_name(type(disttask.submit(return_it, index).exception()))


class _RaisesWhenUnpickled:
    def __init__(self, index):
        self.index = index

    def __reduce__(self):
        return raise_it, (self.index,)


def return_what_raises(index):
    return _RaisesWhenUnpickled(index)


class InterruptsItsDescription(Exception):
    """As a signal handler of the task may, at a bad moment."""

    def __reduce__(self):
        sys.setprofile(_interrupt)
        return RuntimeError, ()


def _interrupt(frame, event, _arg):
    if event == "call" and frame.f_code.co_name == "_join_sections":
        sys.setprofile(None)
        raise KeyboardInterrupt


def interrupt_the_description(*_):
    raise InterruptsItsDescription
