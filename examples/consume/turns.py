"""Times of functions that take turns, and tables of them that are put into a Markdown file."""
import pathlib
import re
import statistics
import time

# The least that one turn of a function takes, in seconds: shorter functions are called several times a turn.
TURN = 0.02


def turns(functions, seconds=10.0, least=5, most=400):
    """What a call of each function takes in each turn: lists of seconds, as many for every function.

    Functions take turns, so that what else slows the machine slows all of them, and `seconds` is for all together.
    """
    counts = [_calls(function) for function in functions]
    times = [[] for _ in functions]
    start = time.perf_counter()
    while len(times[0]) < least or (time.perf_counter() - start < seconds and len(times[0]) < most):
        for function, count, taken in zip(functions, counts, times):
            begun = time.perf_counter()
            for _ in range(count):
                function()
            taken.append((time.perf_counter() - begun) / count)
    return times


def _calls(function):
    """How many calls make a turn, once the function is warm."""
    for _ in range(3):
        begun = time.perf_counter()
        function()
        spent = time.perf_counter() - begun
    return max(1, round(TURN / max(spent, 1e-9)))


def milliseconds(times):
    """A median with its quartiles, in milliseconds."""
    low, middle, high = _quartiles(times)
    return f"{1e3 * middle:.3g} ms ({1e3 * low:.3g} to {1e3 * high:.3g})"


def ratio(times, base):
    """How many times as long it takes as `base`, turn by turn: the median and the quartiles."""
    low, middle, high = _quartiles([x / y for x, y in zip(times, base)])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _quartiles(values):
    return statistics.quantiles(values, n=4, method="inclusive")


def fill(path, name, text):
    """Puts text between the marks of this name in a Markdown file; at its end where it has none."""
    path = pathlib.Path(path)
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    whole = path.read_text() if path.exists() else ""
    made = f"{begin}\n\n{text.strip()}\n\n{end}"
    if begin in whole:
        whole = re.sub(re.escape(begin) + ".*?" + re.escape(end), lambda _: made, whole, flags=re.DOTALL)
    else:
        whole = f"{whole.rstrip()}\n\n{made}\n".lstrip()
    path.write_text(whole)
