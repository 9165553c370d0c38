"""Text files that are replaced whole or not at all, and the form of a table of results."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd


def table_texts(folder: Path, name: str, table: pd.DataFrame, about: Mapping[str, Any]) -> dict[Path, str]:
    """A table to six digits and its provenance. The table comes last: where it is new, all the rest is."""
    return {
        folder / f"{name}.json": json.dumps(about, indent=1, ensure_ascii=False) + "\n",
        folder / f"{name}.csv": table.to_csv(index=False, float_format="%.6g", lineterminator="\n"),
    }


def replace_texts(texts: Mapping[Path, str]) -> None:
    """Write every file beside its place, and put them there in order once all are written."""
    partials = {path: path.with_name(f"{path.name}.partial") for path in texts}
    try:
        for path, partial in partials.items():
            with partial.open("w", encoding="utf-8") as file:
                file.write(texts[path])
                file.flush()
                os.fsync(file.fileno())
    except BaseException:
        for partial in partials.values():
            partial.unlink(missing_ok=True)
        raise
    for path, partial in partials.items():
        partial.replace(path)
