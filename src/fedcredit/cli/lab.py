"""``fedcredit lab``: what a researcher types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from fedcredit.cli.options import Debug, Format, OutputFormat, guarded
from fedcredit.cli.output import console, done, next_step, say
from fedcredit.cli.simulate import describe, simulate
from fedcredit.cli.sweep import sweep
from fedcredit.cli.texts import tr

BY_HAND: Final = "spain"
IN_R: Final = (
    "d <- modeldata::credit_data; "
    'write.csv(cbind(rownames = seq_len(nrow(d)), d), "credit_data.csv", row.names = FALSE)'
)
app = typer.Typer(help="Reproduce and compare experiments.", no_args_is_help=True)
data = typer.Typer(help="Real data sets.", no_args_is_help=True)
app.add_typer(data, name="data")
app.command("simulate")(simulate)
app.command("describe")(describe)
app.command("sweep")(sweep)


@data.command("get")
@guarded
def data_get(
    name: Annotated[str, typer.Argument(help="taiwan, sba, german; givemesomecredit comes with pip; spain by hand.")],
    out: Annotated[Path, typer.Option(help="Folder to put the file into.")] = Path("fedcredit-data"),
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Put a checked copy of a real data set into a folder, with its mapping."""
    from fedcredit.contract.canonical.shipped import write_shipped_mapping
    from fedcredit.data.datasets import fetch_dataset
    from fedcredit.lab.carried import CARRIED, fetch_carried
    from fedcredit.store.files import make_directory

    if name == BY_HAND:
        return _by_hand(out)
    if name in CARRIED:
        path, steps = fetch_carried(name, out), []
    else:
        make_directory(out)
        path, steps = fetch_dataset(name, out), [f"fedcredit demo --data {name}"]
    mapping = write_shipped_mapping(name, out)
    done(tr("wrote {path} ({kilobytes:,.0f} kB, SHA-256 checked)", path=path, kilobytes=path.stat().st_size / 1000))
    next_step(*steps, f"fedcredit node check-data {mapping}")
    return {"name": name, "path": str(path), "mapping": str(mapping)}


def _by_hand(out: Path) -> Mapping[str, Any]:
    """Write the mapping of the one set whose package holds it as a pickle, which runs code when it is opened."""
    from fedcredit.contract.canonical.shipped import write_shipped_mapping
    from fedcredit.store.files import make_directory

    make_directory(out)
    mapping = write_shipped_mapping(BY_HAND, out)
    done(tr("wrote {path}", path=mapping))
    file = out / "credit_data.csv"
    say(tr("   export {path} yourself, in R:", path=file))
    console.print(f"   {IN_R}", markup=False, highlight=False)
    next_step(f"fedcredit node check-data {mapping}")
    return {"name": BY_HAND, "path": None, "mapping": str(mapping)}
