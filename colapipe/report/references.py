"""The papers that a report can cite: one list, written as text for people and as BibTeX."""

from __future__ import annotations

from dataclasses import dataclass

from colapipe.bids.names import template


@dataclass(frozen=True)
class Reference:
    """One published work.

    Parameters
    ----------
    authors : tuple of str
        Family name and initials, as in ``"Jenkinson M"``.
    title, journal : str
        ``journal`` is the proceedings for a conference paper, empty for a preprint.
    year : int
    et_al : bool
        There are more authors than those named.
    volume, number, pages, doi, arxiv : str
        Empty if it has none.
    series : str
        Of proceedings, such as ``"LNCS"``.
    """

    authors: tuple[str, ...]
    title: str
    journal: str
    year: int
    et_al: bool = False
    volume: str = ""
    number: str = ""
    pages: str = ""
    doi: str = ""
    arxiv: str = ""
    series: str = ""

    @property
    def text(self) -> str:
        """The reference as journals of medicine print it."""
        people = ", ".join(self.authors) + (", et al" if self.et_al else "")
        if self.arxiv:
            return f"{people}. {self.title}. arXiv:{self.arxiv}, {self.year}."
        if self.series:
            where = f"{self.journal} {self.year}, {self.series} {self.volume}, {self.pages}"
        else:
            issue = f"({self.number})" if self.number else ""
            where = f"{self.journal} {self.year};{self.volume}{issue}:{self.pages}"
        return f"{people}. {self.title}. {where}. doi:{self.doi}"

    def bibtex(self, key: str) -> str:
        """Return the reference as an entry of a ``.bib`` file."""
        kind, place = ("misc", "") if self.arxiv else ("article", "journal")
        if self.series:
            kind, place = "inproceedings", "booktitle"
        people = [*map(_for_bibtex, self.authors), *(["others"] if self.et_al else [])]
        fields = {
            "author": " and ".join(people),
            # Braces keep the capitals of names and abbreviations.
            "title": f"{{{self.title}}}",
            place: self.journal,
            "year": str(self.year),
            "series": self.series,
            "volume": self.volume,
            "number": self.number,
            "pages": self.pages.replace("-", "--"),
            "doi": self.doi,
            "eprint": self.arxiv,
            "archiveprefix": "arXiv" if self.arxiv else "",
        }
        lines = [f"  {name} = {{{value}}}" for name, value in fields.items() if value]
        return f"@{kind}{{{key},\n" + ",\n".join(lines) + "\n}\n"


def _for_bibtex(author: str) -> str:
    """Write ``"Behrens TEJ"`` as ``"Behrens, T. E. J."``."""
    family, _, initials = author.rpartition(" ")
    return f"{family}, {' '.join(f'{letter}.' for letter in initials)}"


REFERENCES = {
    key: Reference(**{**entry, "authors": tuple(entry["authors"])})
    for key, entry in template("references.json").items()
}
"""Every work that a run can cite. Users keep the keys in their manuscripts: they stay."""
