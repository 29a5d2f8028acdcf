"""How bright a tissue is: relaxation times at 3 T and the equations of two pulse sequences.

=============  ======  ======  ======  =====================================================
tissue         T1 ms   T2 ms   PD      source
=============  ======  ======  ======  =====================================================
CSF              4309    1886    1.00  [1]_ subarachnoid; PD by definition
GM               1331     110   0.837  T1, T2 [2]_; PD (water content) [3]_
WM                832      80   0.691  T1, T2 [2]_; PD (water content) [3]_
blood            1932     275    0.85  T1, T2 [4]_; PD: blood's water content, plausible
muscle           1420    31.7    0.80  T1, T2 [5]_; PD plausible
fat               371     133    0.60  T1, T2 [5]_; PD plausible (part of it is saturated)
lesion           1450     160    0.85  plausible: between GM and CSF, as in demyelination
=============  ======  ======  ======  =====================================================

Gadolinium shortens T1 by its relaxivity r1 = 4.97 L/mmol/s (gadobutrol in plasma, 3 T [6]_);
blood volumes of GM and WM are those of [7]_. Bone and air give no signal. Other groups measured
other values at the same field (T1 of WM 1084 ms and of GM 1820 ms [4]_, T1 of CSF 3817 ms [8]_), so
every simulated subject has its own, a few per cent beside these.

References
----------
.. [1] Quantification of T1 and T2 of subarachnoid CSF: implications for water exchange between
   CSF and brain tissues. Magn Reson Med 2023; PMC10696635.
.. [2] Wansapura et al. NMR relaxation times in the human brain at 3.0 tesla. J Magn Reson
   Imaging 1999; 9:531-538.
.. [3] Oros-Peusquens et al. A single-scan, rapid whole-brain protocol for quantitative water
   content mapping with neurobiological implications. Front Neurol 2019; 10:1333.
.. [4] Stanisz et al. T1, T2 relaxation and magnetization transfer in tissue at 3T. Magn Reson
   Med 2005; 54:507-512.
.. [5] Gold et al. Musculoskeletal MRI at 3.0 T: relaxation times and image contrast. AJR 2004;
   183:343-351.
.. [6] Szomolanyi et al. Comparison of the relaxivities of macrocyclic gadolinium-based contrast
   agents in human plasma at 1.5, 3, and 7 T, and blood at 3 T. Invest Radiol 2019; 54:559-564.
.. [7] Leenders et al. Cerebral blood flow, blood volume and oxygen utilization. Brain 1990;
   113:27-47.
.. [8] Lu et al. Routine clinical brain MRI sequences for use at 3.0 Tesla. J Magn Reson Imaging
   2005; 22:13-22.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Tissue:
    """Relaxation times in seconds, and proton density relative to water."""

    t1: float
    t2: float
    pd: float


TISSUE_VALUES = {
    "CSF": Tissue(4.309, 1.886, 1.00),
    "GM": Tissue(1.331, 0.110, 0.837),
    "WM": Tissue(0.832, 0.080, 0.691),
    "blood": Tissue(1.932, 0.275, 0.85),
    "muscle": Tissue(1.420, 0.0317, 0.80),
    "fat": Tissue(0.371, 0.133, 0.60),
    "lesion": Tissue(1.450, 0.160, 0.85),
    "core": Tissue(1.450, 0.160, 0.85),
}
"""The table above, in seconds; a lesion's core differs from its rim only in gadolinium."""

RELAXIVITY = 4.97
"""Longitudinal relaxivity of gadobutrol in plasma at 3 T, L/mmol/s."""

GADOLINIUM = {"blood": 0.8, "core": 0.4, "lesion": 0.03, "muscle": 0.1}
"""Gadolinium some minutes after a standard dose, mmol/L. The brain's own barrier lets none in."""

BLOOD_VOLUME = {"GM": 0.052, "WM": 0.027, "lesion": 0.027}
"""Part of a tissue's volume that is blood."""


@dataclass(frozen=True)
class Sequence:
    """A pulse sequence: times in seconds, and the voxels that it measures.

    Attributes
    ----------
    tr, te : float
        Repetition and echo time.
    ti : float or None
        Inversion time; None is a spin echo without inversion.
    zooms : tuple of 3 float
        Voxel size towards the right, anterior and superior, mm.
    stored : str
        Order and direction of the stored axes, as nibabel writes it ("LPS").
    gadolinium : bool
        Whether the scan follows the injection of gadolinium.
    """

    tr: float
    te: float
    ti: float | None
    zooms: tuple[float, float, float]
    stored: str
    gadolinium: bool = False


SEQUENCES = {
    "T1w": Sequence(2.3, 0.003, 1.1, (1.0, 1.0, 1.0), "PSR"),
    "T2w": Sequence(5.0, 0.090, None, (0.9, 0.9, 2.0), "LAS"),
    "T1ce": Sequence(2.1, 0.004, 1.0, (1.0, 1.0, 1.2), "RAS", gadolinium=True),
    # The inversion time nulls fluid: TI = T1 (ln 2 - ln(1 + exp(-TR / T1))).
    "FLAIR": Sequence(9.0, 0.100, 2.48, (1.0, 1.0, 3.0), "LAS"),
    "PDw": Sequence(8.2, 0.015, None, (0.9, 0.9, 2.0), "LAS"),
}
"""The simulated protocol. ``PSR`` is how sagittal 3-D scans are often stored."""


def spin_echo(tissue: Tissue, tr: float, te: float) -> float:
    """Return the signal of a spin echo, PD (1 - exp(-TR/T1)) exp(-TE/T2), in [0, PD].

    For TE much shorter than TR, as everywhere here.
    """
    return tissue.pd * (1 - math.exp(-tr / tissue.t1)) * math.exp(-te / tissue.t2)


def inversion_recovery(tissue: Tissue, tr: float, te: float, ti: float) -> float:
    """Return the signal of an inversion recovery spin echo, with its sign.

    PD (1 - 2 exp(-TI/T1) + exp(-TR/T1)) exp(-TE/T2). Negative means that the magnetisation has
    not yet passed zero; a voxel of two tissues adds signed signals before its magnitude is taken.
    """
    recovery = 1 - 2 * math.exp(-ti / tissue.t1) + math.exp(-tr / tissue.t1)
    return tissue.pd * recovery * math.exp(-te / tissue.t2)


def with_gadolinium(tissue: Tissue, concentration: float) -> Tissue:
    """Return the tissue with ``concentration`` mmol/L of gadolinium: 1/T1' = 1/T1 + r1 c."""
    return replace(tissue, t1=1 / (1 / tissue.t1 + RELAXIVITY * concentration))


def signal(name: str, sequence: Sequence, values: dict[str, Tissue] | None = None) -> float:
    """Return the signed signal of a pure voxel of tissue ``name`` in ``sequence``."""
    values = values or TISSUE_VALUES
    tissue = values[name]
    if not sequence.gadolinium:
        return _echo(tissue, sequence)
    own = _echo(with_gadolinium(tissue, GADOLINIUM.get(name, 0.0)), sequence)
    blood = _echo(with_gadolinium(values["blood"], GADOLINIUM["blood"]), sequence)
    volume = BLOOD_VOLUME.get(name, 0.0)
    return (1 - volume) * own + volume * blood


def _echo(tissue: Tissue, sequence: Sequence) -> float:
    if sequence.ti is None:
        return spin_echo(tissue, sequence.tr, sequence.te)
    return inversion_recovery(tissue, sequence.tr, sequence.te, sequence.ti)
