"""Link each word of the glossary where a page's running text first uses it, unless the page links it by hand.

Running text is paragraphs and list items: headings, captions, tables, code, mathematics, links, bold words, quotations, the summaries
of folds and what cells print stay as they are. It is done when pages are written, as only then is the whole glossary known; in a
builder that makes one document of all pages, each page of it has its own first uses.
"""

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import groupby
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

# Words that the pages also use in everyday or other senses, so that a link could mislead.
EVERYDAY = {"claim", "direction", "order", "protocol", "pull", "rho", "ρ", "seed", "strength", "tangent", "tie"}
BESIDE = ("*api*", "*licences", "*references")  # pages that are looked things up in, as is the glossary's own
AROUND = (
    nodes.section,
    nodes.document,
    nodes.bullet_list,
    nodes.enumerated_list,
    nodes.list_item,
    nodes.Admonition,
    nodes.container,
    addnodes.start_of_file,
)
CLOSED = {"cell", "sd-card"}  # a cell with its output; a card, which is a link as a whole


def alternatives(terms: list[str]) -> dict[str, str]:
    """The words to look for, each with its term: "alpha, α" is written in two ways."""
    found = {word: term for term in terms for word in term.split(", ")}
    return {word: term for word, term in found.items() if word.lower() not in EVERYDAY}


def pattern(words: list[str]) -> re.Pattern[str]:
    """Whole words, the longest first; case counts in abbreviations and symbols (MAP is no map)."""

    def one(word: str) -> str:
        text = r"\s+".join(map(re.escape, word.split()))
        return text if word.isupper() or len(word) == 1 else f"(?i:{text}s?)"

    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(one, sorted(words, key=len, reverse=True)))})(?![\w-])")


def is_running(paragraph: nodes.paragraph) -> bool:
    at = paragraph.parent
    while at is not None:
        if not isinstance(at, AROUND) or CLOSED & set(at.get("classes", [])):
            return False
        at = at.parent
    return True


def runs(part: nodes.Element) -> Iterator[list[nodes.Node]]:
    """What is in it, each line of MyST's joined to the ones beside it: a term may be written over two lines."""
    for is_text, group in groupby(part.children, lambda node: type(node) is nodes.Text):
        some = list(group)
        if is_text:
            some = [nodes.Text("".join(node.astext() for node in some))]
            some[0].parent = part
        yield some


def texts(paragraph: nodes.paragraph) -> Iterator[tuple[nodes.Text, str]]:
    """The texts that may get links, each with what the paragraph says before it."""
    for part in (paragraph, *paragraph.findall(nodes.emphasis)):
        part.children = [one for node in runs(part) for one in node]
    before = ""
    for text in list(paragraph.findall(nodes.Text)):
        plain = text.parent is paragraph or (
            isinstance(text.parent, nodes.emphasis) and text.parent.parent is paragraph
        )
        if plain:
            yield text, before
        before += text.astext()


def is_quoted(before: str) -> bool:
    return before.count('"') % 2 == 1 or before.count("“") > before.count("”")


def walk(node: nodes.Element, page: str) -> Iterator[tuple[nodes.Node, str]]:
    """Every element below one, with its page, also where all pages are in one document: parents do not know of that one."""
    for child in node.children:
        if isinstance(child, nodes.Element):
            at = child["docname"] if isinstance(child, addnodes.start_of_file) else page
            yield child, at
            yield from walk(child, at)


class LinkTerms(SphinxPostTransform):
    default_priority = 5  # before Sphinx looks up what references lead to

    def run(self, **kwargs: Any) -> None:
        terms = {name: page for name, _, kind, page, _, _ in self.env.domains["std"].get_objects() if kind == "term"}
        words = alternatives(sorted(terms))
        if not words:
            return
        self.find, self.words = pattern(list(words)), {word.lower(): term for word, term in words.items()}
        linked: dict[str, set[str]] = {}
        placed = list(walk(self.document, self.env.docname))
        for node, page in placed:
            if (
                isinstance(node, addnodes.pending_xref)
                and node.get("refdomain") == "std"
                and node.get("reftype") == "term"
            ):
                linked.setdefault(page, set()).add(node["reftarget"].lower())
        for paragraph, page in placed:
            if not isinstance(paragraph, nodes.paragraph):
                continue
            beside = page in terms.values() or any(fnmatch(page, name) for name in BESIDE)
            if not beside and is_running(paragraph):
                for text, before in texts(paragraph):
                    self.link(text, before, page, linked.setdefault(page, set()))

    def link(self, text: nodes.Text, before: str, page: str, linked: set[str]) -> None:
        written, at = text.astext(), 0
        parts: list[nodes.Node] = []
        for found in self.find.finditer(written):
            word = " ".join(found[0].lower().split())
            term = self.words.get(word) or self.words[word.removesuffix("s")]
            if term.lower() not in linked and not is_quoted(before + written[: found.start()]):
                linked.add(term.lower())
                shown = nodes.inline(found[0], found[0], classes=["xref", "std", "std-term"])
                parts.append(nodes.Text(written[at : found.start()]))
                parts.append(
                    addnodes.pending_xref(
                        "", shown, refdomain="std", reftype="term", reftarget=term, refdoc=page, refexplicit=True
                    )
                )
                at = found.end()
        if parts:
            text.parent.replace(text, [part for part in (*parts, nodes.Text(written[at:])) if part.astext()])


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_post_transform(LinkTerms)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
