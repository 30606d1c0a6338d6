"""A preprocessor for mdBook: files of the repository outside of `src` as chapters, and links that lead to them.

On a git host every link in the book is a path to a file. mdBook makes `X.html` of `X.md`, which is right for its chapters alone. So
a chapter that SUMMARY.md takes from outside of `src`, such as `../../CONTRIBUTING.md`, gets a place below `repository/`, links to it
lead there, and a link to any other file of the repository leads to that file in the checkout around `target/book`.
"""

import json
import os.path
import re
import sys

SRC = "book/src"
OUTPUT = "target/book"
LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")
FENCE = re.compile(r"^ *```")


def chapters(items):
    """Every chapter that has a file, however deep."""
    for item in items:
        chapter = item.get("Chapter") if isinstance(item, dict) else None
        if chapter:
            if chapter["path"]:
                yield chapter
            yield from chapters(chapter["sub_items"])


def placed(path):
    """The place of a file of the repository in the book."""
    return os.path.relpath(path, SRC) if path.startswith(SRC + "/") else "repository/" + path


def linked(content, file, place, places):
    """The content of a file of the repository, with links as they are from its place in the book."""

    def link(match):
        before, target, after = match.groups()
        found = os.path.normpath(os.path.join(os.path.dirname(file), target))
        if found in places:
            to = os.path.relpath(places[found], os.path.dirname(place) or ".")
        else:
            to = os.path.relpath(found, os.path.join(OUTPUT, os.path.dirname(place)))
            # Only what is spelled out is taken for a chapter.
            to = re.sub(r"\.md$", "%2Emd", to)
        return before + to + after

    lines, fenced = [], False
    for line in content.split("\n"):
        fenced ^= bool(FENCE.match(line))
        lines.append(line if fenced else LINK.sub(link, line))
    return "\n".join(lines)


def main():
    if sys.argv[1:2] == ["supports"]:
        return
    _, book = json.load(sys.stdin)
    found = list(chapters(book.get("items", book.get("sections", []))))
    files = [os.path.normpath(os.path.join(SRC, chapter["path"])) for chapter in found]
    places = {file: placed(file) for file in files}
    for chapter, file in zip(found, files):
        chapter["content"] = linked(chapter["content"], file, places[file], places)
        chapter["path"] = places[file]
    json.dump(book, sys.stdout)


main()
