"""The ledger of claims on its own page and in the chapters, from book/claims.yml.

`claims` with a chapter's name counts the chapter's claims and, folded, lists them; `claims-table` is the whole ledger, every row
with its reason and, folded, its rule, what was found and links to its evidence; `claims-counts` has its sums. The tables are in
the page: claims_ledger.js only adds the filter. What queries say is computed when the book is built, and a verdict of the ledger
that they do not give is a warning, hence an error. Verdict cells are not asked here: the notebooks of a build may have been run
with other parameters.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from docutils import nodes
from folds import folded
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from evidence.ledger.claims import VERDICTS, VERSIONS, Claim, Sources, counts, load_ledger
from evidence.ledger.claims import judge as judge_claim

LOGGER = logging.getLogger(__name__)
SIGNS = dict(zip(VERDICTS, ("✓", "◐", "≠", "✗", "?", "–"), strict=True))
OURS = "ours"
PLURAL = re.compile(r"(?<=^hold)s|(?<=^fail)s")  # the letter that goes: 2 hold


def css(word: str) -> str:
    return word.replace(" ", "-")


def in_short(claims: Sequence[Claim]) -> str:
    """How many claims have which verdict, such as "2 claims: 1 holds, 1 not shown"."""
    found = {verdict: n for verdict, n in counts(claims).items() if n}
    words = [f"1 {word}" if n == 1 else f"{n} {PLURAL.sub('', word)}" for word, n in found.items()]
    return f"{len(claims)} {'claim' if len(claims) == 1 else 'claims'}: {', '.join(words)}"


class Ledger(SphinxDirective):
    """What the three directives share."""

    def claims(self) -> list[Claim]:
        path = Path(self.env.srcdir) / "book" / "claims.yml"
        self.env.note_dependency(str(path))
        return load_ledger(path)

    def text(self, text: str, *classes: str) -> nodes.inline:
        return nodes.inline("", text, classes=list(classes))

    def badge(self, verdict: str) -> nodes.inline:
        """The word, and a sign beside it for those who scan the column; colour comes third."""
        sign = nodes.inline("", SIGNS[verdict], classes=["verdict-sign"])
        return nodes.inline("", "", sign, nodes.Text(f" {verdict}"), classes=["verdict", f"verdict-{css(verdict)}"])

    def link(self, target: str, shown: nodes.Node) -> pending_xref:
        """To a page, given from the root of the book; see `resolve` for the part after the #."""
        page, _, anchor = target.partition("#")
        options = {"refdomain": "", "reftype": "claims", "reftarget": page, "refanchor": anchor, "refexplicit": True}
        return pending_xref("", shown, refdoc=self.env.docname, refwarn=True, **options)

    def to_claim(self, claim: Claim) -> pending_xref:
        return self.link(f"book/claims#claim-{claim.id}", nodes.literal("", claim.id))

    def title(self, stem: str) -> str:
        """A chapter's title, from its first heading."""
        path = Path(self.env.srcdir) / "notebooks" / f"{stem}.ipynb"
        if not path.exists():
            return stem
        self.env.note_dependency(str(path))
        sources = ("".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"])
        lines = (line for source in sources for line in source.splitlines())
        return next((line[2:] for line in lines if line.startswith("# ")), stem)

    def table(self, heads: Sequence[str], rows: Sequence[nodes.row], *classes: str) -> nodes.table:
        group = nodes.tgroup(cols=len(heads))
        group += [nodes.colspec(colwidth=1) for _ in heads]
        group += nodes.thead("", self.row(*(self.text(head) for head in heads)))
        group += nodes.tbody("", *rows)
        return nodes.table("", group, classes=["claims", *classes])

    def row(self, *cells: nodes.Node | Sequence[nodes.Node]) -> nodes.row:
        row = nodes.row()
        for cell in cells:
            parts = [cell] if isinstance(cell, nodes.Node) else list(cell)
            block = (nodes.paragraph, nodes.bullet_list, nodes.raw)
            blocks = [part if isinstance(part, block) else nodes.paragraph("", "", part) for part in parts]
            row += nodes.entry("", *blocks)
        return row

    def line(self, label: str, *parts: nodes.Node) -> nodes.paragraph:
        return nodes.paragraph("", "", self.text(f"{label}: ", "claim-label"), *parts)


class ChapterClaims(Ledger):
    """``{claims} 20_lambda``: the claims that a chapter shows, or has evidence for, with their verdicts."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        stem = self.arguments[0]
        places = {claim.id: {claim.chapter, *(one.place[0] for one in claim.evidence)} for claim in self.claims()}
        own = [claim for claim in self.claims() if stem in places[claim.id]]
        if not own:
            LOGGER.warning("no claim has the chapter %r", stem, location=self.get_location())
        rows = []
        for claim in own:
            where = ", ".join(claim.where) if not claim.ours else OURS
            first = nodes.paragraph("", "", self.to_claim(claim), self.text(f" {where}", "claim-where"))
            sentence = nodes.paragraph("", claim.claim)
            rows.append(self.row([first, sentence], self.badge(claim.verdict)))
        note = nodes.paragraph(
            "",
            "Verdicts at the book's own parameters; run the page with others and its cells print theirs. "
            "Rules, reasons and the claims of all chapters are in ",
        )
        note += [self.link("book/claims#", self.text("the ledger")), nodes.Text(".")]
        table = self.table(["claim, and where it is made", "verdict"], rows, "claims-of-chapter")
        return folded(in_short(own), table, note)


class ClaimCounts(Ledger):
    """``{claims-counts}``: how many claims have which verdict."""

    def run(self) -> list[nodes.Node]:
        claims = [claim for claim in self.claims() if not claim.ours]
        groups = [claims] + [[c for c in claims if version in c.versions] for version in VERSIONS]
        sums = [counts(group) for group in groups]
        rows = [self.row(self.badge(verdict), *(self.text(str(one[verdict])) for one in sums)) for verdict in VERDICTS]
        rows.append(self.row(self.text("together"), *(self.text(str(sum(one.values()))) for one in sums)))
        heads = ["verdict", "all", "in version 1", "in version 2"]
        return [self.table(heads, rows, "claims-counts")]


class ClaimsTable(Ledger):
    """``{claims-table}``: every claim, as a table that claims_ledger.js can filter."""

    def run(self) -> list[nodes.Node]:
        claims = self.claims()
        titles = {claim.chapter: self.title(claim.chapter) for claim in claims}
        table = self.table(["claim", "verdict, and why"], [*self.rows(claims, titles)], "claims-ledger")
        chosen = {
            "verdicts": list(VERDICTS),
            "versions": [*VERSIONS, OURS],
            "chapters": [[stem, titles[stem]] for stem in sorted(titles)],
        }
        text = json.dumps(chosen, ensure_ascii=False).replace("<", "\\u003c")
        controls = f'<div class="claims-filter" hidden><script type="application/json">{text}</script></div>'
        return [nodes.raw("", controls, format="html"), table]

    def rows(self, claims: Sequence[Claim], titles: dict[str, str]) -> Iterator[nodes.row]:
        results = Path(self.env.srcdir) / "book" / "results"
        sources = Sources(Path(self.env.srcdir) / "notebooks", results)
        for claim in claims:
            where = ", ".join(claim.where) if not claim.ours else OURS
            name = nodes.paragraph("", "", nodes.literal("", claim.id), self.text(f" {where}", "claim-where"))
            verdict: list[nodes.Node] = [self.badge(claim.verdict)]
            if claim.seeds is not None:
                verdict += [nodes.Text(" "), self.text(f"{claim.seeds} seeds", "claim-seeds")]
            more = [self.line("holds when", nodes.Text(f"{claim.rule}."))]
            for one in claim.queries:
                for table in results.glob("*.csv"):
                    self.env.note_dependency(str(table))
                alone = Claim(**{**claim.__dict__, "evidence": (one,)})
                judged = judge_claim(alone, sources)
                more += self.found(judged.numbers)
                if len(claim.evidence) == 1 and judged.verdict != claim.verdict:
                    message = "%s: the ledger says %r, its query %r; run `python -m tools.ledger --write`"
                    LOGGER.warning(message, claim.id, claim.verdict, judged.verdict, location=self.get_location())
            reasons = [one.name for one in claim.evidence if one.kind == "reason"]
            more += [self.line("evidence", nodes.Text(f"none. {reason}")) for reason in reasons]
            more.append(self.line("see" if reasons else "evidence", *self.links(claim, titles)))
            folded = [
                nodes.raw("", "<details><summary>Rule and evidence</summary>", format="html"),
                *more,
                nodes.raw("", "</details>", format="html"),
            ]
            because = self.line("because", nodes.Text(claim.reason))
            row = self.row(
                [name, nodes.paragraph("", claim.claim)], [nodes.paragraph("", "", *verdict), because, *folded]
            )
            row["ids"] = [f"claim-{claim.id}"]
            versions = claim.versions or (OURS,)
            row["classes"] = [f"is-{css(claim.verdict)}", *(f"in-{v}" for v in versions), f"of-{claim.chapter}"]
            yield row

    def found(self, numbers: str) -> list[nodes.Node]:
        """What a query found, a line for each protocol."""
        parts = [f"{part.rstrip('.')}." for part in numbers.split(". ")]
        if len(parts) == 1:
            return [self.line("found", nodes.Text(parts[0]))]
        items = [nodes.list_item("", nodes.paragraph("", part)) for part in parts]
        return [nodes.paragraph("", "", self.text("found:", "claim-label")), nodes.bullet_list("", *items)]

    def links(self, claim: Claim, titles: dict[str, str]) -> Iterator[nodes.Node]:
        places = dict.fromkeys(one.place for one in claim.evidence if all(one.place))
        if claim.chapter not in {stem for stem, _ in places}:
            places[claim.chapter, ""] = None
        for n, (stem, cell) in enumerate(places):
            if n:
                yield nodes.Text("; ")
            target = f"notebooks/{stem}#{f'cell-{cell}' if cell else ''}"
            parts = [nodes.Text(f", cell {cell}")] if cell else []
            yield self.link(target, nodes.inline("", "", nodes.Text(titles.get(stem) or self.title(stem)), *parts))


def resolve(app: Sphinx, env: Any, node: pending_xref, content: nodes.Node) -> nodes.Node | None:
    """A link to a page and a place in it; a page that is not in the book is left to Sphinx's warning."""
    if node.get("reftype") != "claims" or node["reftarget"] not in env.all_docs:
        return None
    reference = nodes.reference("", "", content, internal=True)
    anchor = f"#{node['refanchor']}" if node["refanchor"] else ""
    reference["refuri"] = app.builder.get_relative_uri(node["refdoc"], node["reftarget"]) + anchor
    return reference


def name_cells(app: Sphinx, doctree: nodes.document) -> None:
    """Give every cell of a notebook an anchor made of its id, so that a verdict can be linked to."""
    path = Path(app.env.doc2path(app.env.docname))
    if path.suffix != ".ipynb":
        return
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for container in doctree.findall(nodes.container):
        if container.get("nb_element") == "cell_code" and container.get("cell_index", len(cells)) < len(cells):
            container["ids"].append(f"cell-{cells[container['cell_index']]['id']}")


def load_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    tables = [one for one in doctree.findall(nodes.table) if "claims" in one["classes"]] if doctree is not None else []
    if tables:
        app.add_css_file("claims_ledger.css")
    if any("claims-ledger" in one["classes"] for one in tables):
        app.add_js_file("claims_ledger.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("claims", ChapterClaims)
    app.add_directive("claims-counts", ClaimCounts)
    app.add_directive("claims-table", ClaimsTable)
    app.connect("missing-reference", resolve)
    app.connect("doctree-read", name_cells)
    app.connect("html-page-context", load_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
