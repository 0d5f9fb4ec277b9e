# SPDX-License-Identifier: Apache-2.0
"""The stages, by class name and by catalogue key; each module loads on first use.

    from datapipe.stages import ReadParquet, MinHash
    find("dedup.minhash") is MinHash

What is imported under `TYPE_CHECKING` is for type checkers and editors only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datapipe._lazy import loaded
from datapipe.errors import MissingExtra, UnknownStage, nearest

if TYPE_CHECKING:
    from datapipe.core.stage import Stage
    from datapipe.stages.balance.classes import ClassBalance as ClassBalance
    from datapipe.stages.balance.groups import GroupBalance as GroupBalance
    from datapipe.stages.dedup.exact import ExactDuplicates as ExactDuplicates
    from datapipe.stages.dedup.minhash import MinHash as MinHash
    from datapipe.stages.dedup.near import NearDuplicates as NearDuplicates
    from datapipe.stages.export.quantized import ExportQuantized as ExportQuantized
    from datapipe.stages.ingest.csv import ReadCSV as ReadCSV
    from datapipe.stages.ingest.ipc import ReadArrow as ReadArrow
    from datapipe.stages.ingest.jsonl import ReadJSONL as ReadJSONL
    from datapipe.stages.ingest.object import ReadObject as ReadObject
    from datapipe.stages.ingest.parquet import ReadParquet as ReadParquet
    from datapipe.stages.labels.aggregate import AggregateAnswers as AggregateAnswers
    from datapipe.stages.labels.annotators import JudgeAnnotators as JudgeAnnotators
    from datapipe.stages.labels.confident import ConfidentLearning as ConfidentLearning
    from datapipe.stages.labels.dawid_skene import DawidSkene as DawidSkene
    from datapipe.stages.labels.majority import MajorityVote as MajorityVote
    from datapipe.stages.poisoning.activations import ActivationOutliers as ActivationOutliers
    from datapipe.stages.poisoning.certify import CertifyPoisoning as CertifyPoisoning
    from datapipe.stages.poisoning.evasion import EvasionAttacks as EvasionAttacks
    from datapipe.stages.poisoning.flips import LabelFlips as LabelFlips
    from datapipe.stages.poisoning.source_shift import SourceShift as SourceShift
    from datapipe.stages.poisoning.split_view import SplitView as SplitView
    from datapipe.stages.poisoning.trigger_image import TriggerImage as TriggerImage
    from datapipe.stages.poisoning.trigger_table import TriggerTable as TriggerTable
    from datapipe.stages.poisoning.trigger_text import TriggerText as TriggerText
    from datapipe.stages.provenance.credentials import ContentCredentials as ContentCredentials
    from datapipe.stages.provenance.declarations import SourceDeclarations as SourceDeclarations
    from datapipe.stages.provenance.licence import LicenceRule as LicenceRule
    from datapipe.stages.provenance.manifest import VerifySources as VerifySources
    from datapipe.stages.provenance.trust import RequireTrust as RequireTrust
    from datapipe.stages.synthetic.collapse import CollapseForecast as CollapseForecast
    from datapipe.stages.synthetic.declared import DeclaredSynthetic as DeclaredSynthetic
    from datapipe.stages.synthetic.diversity import CorpusDiversity as CorpusDiversity
    from datapipe.stages.synthetic.prevalence import SyntheticShare as SyntheticShare
    from datapipe.stages.synthetic.score import SyntheticScore as SyntheticScore
    from datapipe.stages.synthetic.watermark import WatermarkKeys as WatermarkKeys
    from datapipe.stages.train.federated import TrainFederated as TrainFederated
    from datapipe.stages.train.plain import TrainPlain as TrainPlain
    from datapipe.stages.train.private import TrainPrivately as TrainPrivately
    from datapipe.stages.validate.expect import Expect as Expect

CATALOGUE = {
    "ingest.parquet": "ReadParquet",
    "ingest.csv": "ReadCSV",
    "ingest.jsonl": "ReadJSONL",
    "ingest.ipc": "ReadArrow",
    "ingest.object": "ReadObject",
    "provenance.manifest": "VerifySources",
    "provenance.licence": "LicenceRule",
    "provenance.declarations": "SourceDeclarations",
    "provenance.credentials": "ContentCredentials",
    "provenance.trust": "RequireTrust",
    "dedup.exact": "ExactDuplicates",
    "dedup.minhash": "MinHash",
    "dedup.near": "NearDuplicates",
    "synthetic.declared": "DeclaredSynthetic",
    "synthetic.watermark": "WatermarkKeys",
    "synthetic.score": "SyntheticScore",
    "synthetic.prevalence": "SyntheticShare",
    "synthetic.diversity": "CorpusDiversity",
    "synthetic.collapse": "CollapseForecast",
    "poisoning.activations": "ActivationOutliers",
    "poisoning.certify": "CertifyPoisoning",
    "poisoning.evasion": "EvasionAttacks",
    "poisoning.flips": "LabelFlips",
    "poisoning.source_shift": "SourceShift",
    "poisoning.split_view": "SplitView",
    "poisoning.trigger_image": "TriggerImage",
    "poisoning.trigger_table": "TriggerTable",
    "poisoning.trigger_text": "TriggerText",
    "balance.classes": "ClassBalance",
    "balance.groups": "GroupBalance",
    "labels.confident": "ConfidentLearning",
    "labels.majority": "MajorityVote",
    "labels.dawid_skene": "DawidSkene",
    "labels.aggregate": "AggregateAnswers",
    "labels.annotators": "JudgeAnnotators",
    "validate.expect": "Expect",
    "train.plain": "TrainPlain",
    "train.private": "TrainPrivately",
    "train.federated": "TrainFederated",
    "export.quantized": "ExportQuantized",
}
"""Key to class name; the module of `family.method` is `datapipe.stages.family.method`."""

EXTRAS = {
    "sklearn": "learn",
    "torch": "train",
    "opacus": "train",
    "safetensors": "train",
    "great_expectations": "validate",
    "torchao": "export",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
    "flwr": "federated",
    "tenseal": "encrypted",
    "c2pa": "c2pa",
    "ray": "ray",
}
"""Import name of an optional package to the extra that brings it."""

_KEYS = {name: key for key, name in CATALOGUE.items()}
__all__ = ["find", *sorted(_KEYS)]


def find(key: str) -> type[Stage]:
    """The stage class of a catalogue key, its module loaded on demand.

    Built-in stages come first; entry points of the group `datapipe.stages` are asked only for
    keys that are not built in.

    Args:
        key: `family.method`, or a class name.

    Returns:
        The class.

    Raises:
        UnknownStage: No stage has this key.
        MissingExtra: Its module needs a package that is not installed.

    Example:
        >>> find("dedup.minhas")
        Traceback (most recent call last):
        ...
        datapipe.errors.UnknownStage: there is no stage 'dedup.minhas' [DP-DECL-001]
        <BLANKLINE>
        hint: did you mean 'dedup.minhash' or 'dedup.near' or 'dedup.exact'?
    """
    wanted = _KEYS.get(key, key)
    if wanted in CATALOGUE:
        stage: type[Stage] = getattr(_load(f"{__name__}.{wanted}"), CATALOGUE[wanted])
        return stage
    return _outside(key)


def _outside(key: str) -> type[Stage]:
    from importlib.metadata import entry_points  # noqa: PLC0415 - costs 76 modules, rarely needed

    for entry in entry_points(group="datapipe.stages"):
        if entry.name == key:
            loaded: type[Stage] = entry.load()
            return loaded
    raise UnknownStage(f"there is no stage {key!r}", hint=nearest(key, [*CATALOGUE, *_KEYS]))


def _load(module: str) -> Any:
    try:
        return loaded(module)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        extra = EXTRAS[package]
        raise MissingExtra(
            f"{module.removeprefix('datapipe.stages.')} needs the package {package!r}",
            hint=f"pip install 'datapipe[{extra}]'",
        ) from error


def __getattr__(name: str) -> Any:
    if name in _KEYS:
        return find(_KEYS[name])
    if not name[0].isupper():  # a family or a dunder: let the import system go on looking
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    raise UnknownStage(f"there is no stage {name!r}", hint=nearest(name, _KEYS))


def __dir__() -> list[str]:
    return list(__all__)
