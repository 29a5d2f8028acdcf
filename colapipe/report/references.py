"""The papers that a report can cite: one list, written as text for people and as BibTeX."""

from __future__ import annotations

from dataclasses import dataclass


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
    "jiang2023coladiff": Reference(
        ("Jiang L", "Mao Y", "Wang X", "Chen X", "Li C"),
        "CoLa-Diff: Conditional Latent Diffusion Model for Multi-modal MRI Synthesis",
        "MICCAI",
        2023,
        series="LNCS",
        volume="14229",
        pages="398-408",
        doi="10.1007/978-3-031-43999-5_38",
    ),
    "gorgolewski2011nipype": Reference(
        ("Gorgolewski K", "Burns CD", "Madison C"),
        "Nipype: a flexible, lightweight and extensible neuroimaging data processing framework in "
        "Python",
        "Front Neuroinform",
        2011,
        et_al=True,
        volume="5",
        pages="13",
        doi="10.3389/fninf.2011.00013",
    ),
    "gorgolewski2016bids": Reference(
        ("Gorgolewski KJ", "Auer T", "Calhoun VD"),
        "The brain imaging data structure, a format for organizing and describing outputs of "
        "neuroimaging experiments",
        "Sci Data",
        2016,
        et_al=True,
        volume="3",
        pages="160044",
        doi="10.1038/sdata.2016.44",
    ),
    "jenkinson2012fsl": Reference(
        ("Jenkinson M", "Beckmann CF", "Behrens TEJ", "Woolrich MW", "Smith SM"),
        "FSL",
        "NeuroImage",
        2012,
        volume="62",
        number="2",
        pages="782-790",
        doi="10.1016/j.neuroimage.2011.09.015",
    ),
    "smith2002bet": Reference(
        ("Smith SM",),
        "Fast robust automated brain extraction",
        "Hum Brain Mapp",
        2002,
        volume="17",
        number="3",
        pages="143-155",
        doi="10.1002/hbm.10062",
    ),
    "jenkinson2002flirt": Reference(
        ("Jenkinson M", "Bannister P", "Brady M", "Smith S"),
        "Improved optimization for the robust and accurate linear registration and motion "
        "correction of brain images",
        "NeuroImage",
        2002,
        volume="17",
        number="2",
        pages="825-841",
        doi="10.1006/nimg.2002.1132",
    ),
    "zhang2001hmrf": Reference(
        ("Zhang Y", "Brady M", "Smith S"),
        "Segmentation of brain MR images through a hidden Markov random field model and the "
        "expectation-maximization algorithm",
        "IEEE Trans Med Imaging",
        2001,
        volume="20",
        number="1",
        pages="45-57",
        doi="10.1109/42.906424",
    ),
    "fisch2024deepbet": Reference(
        ("Fisch L", "Zumdick S", "Barkhau C"),
        "deepbet: Fast brain extraction of T1-weighted MRI using Convolutional Neural Networks",
        "Comput Biol Med",
        2024,
        et_al=True,
        volume="179",
        pages="108845",
        doi="10.1016/j.compbiomed.2024.108845",
    ),
    "lowekamp2013simpleitk": Reference(
        ("Lowekamp BC", "Chen DT", "Ibanez L", "Blezek D"),
        "The design of SimpleITK",
        "Front Neuroinform",
        2013,
        volume="7",
        pages="45",
        doi="10.3389/fninf.2013.00045",
    ),
    "mattes2003registration": Reference(
        ("Mattes D", "Haynor DR", "Vesselle H", "Lewellen TK", "Eubank W"),
        "PET-CT image registration in the chest using free-form deformations",
        "IEEE Trans Med Imaging",
        2003,
        volume="22",
        number="1",
        pages="120-128",
        doi="10.1109/TMI.2003.809072",
    ),
    "angelopoulos2021conformal": Reference(
        ("Angelopoulos AN", "Bates S"),
        "A gentle introduction to conformal prediction and distribution-free uncertainty "
        "quantification",
        "",
        2021,
        arxiv="2107.07511",
    ),
    "tustison2010n4": Reference(
        ("Tustison NJ", "Avants BB", "Cook PA"),
        "N4ITK: improved N3 bias correction",
        "IEEE Trans Med Imaging",
        2010,
        et_al=True,
        volume="29",
        number="6",
        pages="1310-1320",
        doi="10.1109/TMI.2010.2046908",
    ),
}
"""Every work that a run can cite. Users keep the keys in their manuscripts: they stay."""
