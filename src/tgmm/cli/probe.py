"""The command that looks inside a trained network: probe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tgmm.cli.settings import ConfigOption, ScaleOption, SettingsOption, resolve_settings

if TYPE_CHECKING:
    import pandas as pd

    from tgmm.study import Study

EM_STEPS = 20
MOST_TASKS = 256  # for each K; what goes on inside needs fewer tasks than a comparison of errors


def probe(
    family: Annotated[str, typer.Argument(help="A family with component tokens: isotropic-d8-n128-components.")],
    model: Annotated[Path, typer.Option(help="Folder of the trained family.")],
    out: Annotated[Path, typer.Option(help="The measurements to write, .csv or .parquet.")],
    picture: Annotated[Path | None, typer.Option(help="The picture's data to write, likewise; d = 2 only.")] = None,
    settings: SettingsOption = None,
    config: ConfigOption = Path("config.yaml"),
    scale: ScaleOption = None,
) -> None:
    """Measure how far a trained network does what EM does: linear probes, errors by layer, attention."""
    values = resolve_settings(settings, config, scale, lambda study: probe_settings(study, family))
    from tgmm.methods.threads import one_thread
    from tgmm.probes.measure import measure_probes
    from tgmm.probes.picture import picture_table

    with one_thread():
        table, tests = measure_probes(model, values)
        _write(out, table)
        if picture is not None:
            _write(picture, picture_table(tests, table, values))
    print(f"{family}: {len(table)} rows -> {out}" + (f", {picture}" if picture else ""))


def probe_settings(study: Study, family: str) -> dict[str, Any]:
    """Settings of `tgmm probe`."""
    from tgmm.study.resolution import known

    known("family", family, study.families)
    parts = {key: value for key, value in study.families[family].items() if key != "recipe"}
    return {
        "family": family,
        **parts,
        "tasks": min(MOST_TASKS, study.config["test_tasks"]),
        "em_steps": EM_STEPS,
        "bootstrap": study.config["bootstrap"],
        "seed": study.config["seed"],
        "scale": study.scale,
    }


def _write(path: Path, table: pd.DataFrame) -> None:
    """Write a table whole or not at all; as CSV the manuscript can read it too."""
    from tgmm.files import atomic_path

    with atomic_path(path) as temporary:
        if path.suffix == ".csv":
            table.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
        else:
            table.to_parquet(temporary, index=False)
