"""``fedcredit lab``: what a researcher types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fedcredit.cli.options import Debug, Format, OutputFormat, guarded
from fedcredit.cli.output import done, next_step
from fedcredit.cli.simulate import describe, simulate
from fedcredit.cli.sweep import sweep
from fedcredit.cli.texts import tr

app = typer.Typer(help="Reproduce and compare experiments.", no_args_is_help=True)
data = typer.Typer(help="Real data sets.", no_args_is_help=True)
app.add_typer(data, name="data")
app.command("simulate")(simulate)
app.command("describe")(describe)
app.command("sweep")(sweep)


@data.command("get")
@guarded
def data_get(
    name: Annotated[str, typer.Argument(help="taiwan, sba or german.")],
    out: Annotated[Path, typer.Option(help="Folder to put the file into.")] = Path("fedcredit-data"),
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Put a checked copy of a real data set into a folder."""
    from fedcredit.contract.canonical.shipped import write_shipped_mapping
    from fedcredit.data.datasets import fetch_dataset
    from fedcredit.store.files import make_directory

    make_directory(out)
    path = fetch_dataset(name, out)
    mapping = write_shipped_mapping(name, out)
    done(tr("wrote {path} ({kilobytes:,.0f} kB, SHA-256 checked)", path=path, kilobytes=path.stat().st_size / 1000))
    next_step(f"fedcredit demo --data {name}", f"fedcredit node check-data {mapping}")
    return {"name": name, "path": str(path), "mapping": str(mapping)}
