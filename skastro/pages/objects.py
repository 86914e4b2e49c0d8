"""What a report shows of single objects: projection, clusters, mistakes, strangers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skastro.pages.explorer import ExplorerParts, explorer_parts, stamp_style
from skastro.pages.thumbnails import sheet_columns

_MOST_CARDS = 24
_MOST_CLUSTERS = 20
_STAMPS_OF_A_CLUSTER = 12
_CERTAINTY = "cluster_probability"


@dataclass(frozen=True)
class ReportObjects:
    """The objects of a study, row by row, and their thumbnails.

    Parameters
    ----------
    table : DataFrame
        ``predictions.csv`` and ``objects.csv`` side by side, with ``confidence``, the
        probability of the predicted class, where there are probabilities.
    sheet : bytes or None
        ``thumbnails.webp``.
    projection : mapping
        ``method`` and ``trustworthiness`` of the coordinates, as the configuration has them.
    units : mapping of str to str

    Examples
    --------
    >>> table = pd.DataFrame({"id": ["a", "b"], "outlier_score": [0.1, 0.9]})
    >>> ReportObjects(table, b"", {}, {}).strangest()[0]["id"]
    'b'
    """

    table: pd.DataFrame
    sheet: bytes | None
    projection: Mapping[str, Any]
    units: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path, config: Mapping[str, Any]) -> ReportObjects:
        """Read what there is in the folder of a study.

        Parameters
        ----------
        folder : Path
        config : mapping
            Of ``config.json``: ``projection`` and ``units`` are looked at.

        Returns
        -------
        objects : ReportObjects

        Raises
        ------
        ValueError
            ``objects.csv`` has other rows than ``predictions.csv``.
        """
        text = {"id": str, "split": str, "label": str, "prediction": str}
        table = pd.read_csv(folder / "predictions.csv", dtype=text, keep_default_na=False)
        probabilities = [name for name in table.columns if name.startswith("p_")]
        if probabilities:
            table["confidence"] = table[probabilities].astype(float).max(axis=1)
        table = table.drop(columns=["used", *probabilities], errors="ignore")
        if (folder / "objects.csv").is_file():
            more = pd.read_csv(folder / "objects.csv", dtype={"id": str})
            if more["id"].tolist() != table["id"].tolist():
                raise ValueError(
                    f"{folder / 'objects.csv'} has other ids than predictions.csv: write both "
                    "with the same objects in the same order."
                )
            new = [name for name in more.columns if name not in table.columns]
            table = pd.concat([table, more[new]], axis=1)
        picture = folder / "thumbnails.webp"
        sheet = picture.read_bytes() if picture.is_file() else None
        return cls(table, sheet, config.get("projection") or {}, config.get("units") or {})

    def style(self) -> str:
        """Return the CSS of the thumbnails, if there are any.

        Returns
        -------
        style : str
        """
        return "" if self.sheet is None else stamp_style(self.sheet, len(self.table))

    def explorer(self) -> ExplorerParts | None:
        """Return the interactive projection.

        Returns
        -------
        parts : ExplorerParts or None
            None without coordinates ``x`` and ``y``.
        """
        if not {"x", "y"} <= set(self.table.columns):
            return None
        known = self.table["label"] != ""
        right = np.where(self.table["label"] == self.table["prediction"], "right", "wrong")
        table = self.table.drop(columns=["x", "y"])
        # of test rows only: the classifier may have learned the others
        table.insert(4, "verdict", np.where(known & (table["split"] == "test"), right, ""))
        has = set(table.columns).__contains__
        certainty = {"prediction": "confidence", "cluster": _CERTAINTY, "label": "confidence"}
        return explorer_parts(
            self.table[["x", "y"]],
            table=table,
            sheet=self.sheet,
            style=False,
            color="label",
            cluster="cluster" if has("cluster") else None,
            certainty={a: b for a, b in certainty.items() if has(a) and has(b)},
            units=self.units,
            projection=self.projection.get("method", "projection"),
        )

    def clusters(self) -> list[dict[str, Any]]:
        """Return the contact sheets of the clusters, the largest first.

        Returns
        -------
        clusters : list of dict
            ``name``, ``size``, ``majority`` (class and its share of the labelled members, or
            "") and ``cards``; none without clusters or thumbnails.
        """
        if self.sheet is None or "cluster" not in self.table.columns:
            return []
        sizes = self.table.loc[self.table["cluster"] >= 0, "cluster"].value_counts()
        return [self._cluster(name) for name in sizes.index[:_MOST_CLUSTERS]]

    def noise(self) -> int:
        """Count the objects in no cluster.

        Returns
        -------
        n : int
        """
        return int((self.table["cluster"] < 0).sum()) if "cluster" in self.table.columns else 0

    def mistakes(self) -> list[dict[str, Any]]:
        """Return the test rows that were classified wrongly, the most confident first.

        Returns
        -------
        cards : list of dict
            ``row``, ``column``, ``line`` (on the sheet), ``id`` and ``text``; none without
            thumbnails or probabilities.
        """
        if self.sheet is None or "confidence" not in self.table.columns:
            return []
        test = (self.table["split"] == "test") & (self.table["label"] != "")
        wrong = self.table[test & (self.table["label"] != self.table["prediction"])]
        wrong = wrong.sort_values("confidence", ascending=False, kind="stable").head(_MOST_CARDS)
        return [
            self._card(
                row.Index, f"{row.label} taken for {row.prediction}, {_percent(row.confidence)}"
            )
            for row in wrong.itertuples()
        ]

    def strangest(self) -> list[dict[str, Any]]:
        """Return the objects of the highest outlier scores.

        Returns
        -------
        cards : list of dict
            As of `mistakes`; none without thumbnails or ``outlier_score``.
        """
        if self.sheet is None or "outlier_score" not in self.table.columns:
            return []
        scores = self.table["outlier_score"].dropna().sort_values(ascending=False, kind="stable")
        labels = self.table.get("label", pd.Series("", self.table.index))
        return [
            self._card(row, f"{score:.2f}" + (f", {labels[row]}" if labels[row] else ""))
            for row, score in scores.head(_MOST_CARDS).items()
        ]

    def _cluster(self, name: Any) -> dict[str, Any]:
        members = self.table[self.table["cluster"] == name]
        if _CERTAINTY in members.columns:
            members = members.sort_values(_CERTAINTY, ascending=False, kind="stable")
        shares = members.loc[members["label"] != "", "label"].value_counts(normalize=True)
        majority = f"{_percent(shares.iloc[0])} {shares.index[0]}" if len(shares) else ""
        return {
            "name": f"{name:g}",
            "size": len(members),
            "majority": majority,
            "cards": [self._card(row, "") for row in members.index[:_STAMPS_OF_A_CLUSTER]],
        }

    def _card(self, row: int, text: str) -> dict[str, Any]:
        line, column = divmod(row, sheet_columns(len(self.table)))
        card = {"row": row, "column": column, "line": line}
        return card | {"id": self.table["id"][row], "text": text}


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
