"""The metrics' SQL on Apache Spark, over the very files and rows that the log says count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from detections.portable_sql import SPARK_FUNCTIONS, spark_sql
from ledger.errors import UsageError
from ledger.events import ERASED_LEAF

if TYPE_CHECKING:
    from ledger.reader import Ledger


def local_spark() -> Any:
    """A Spark in this process, on all its cores, whose times are UTC and which talks to nobody.

    Raises:
        UsageError: pyspark or Java is not there.
    """
    try:
        from pyspark.sql import SparkSession  # noqa: PLC0415 - most never ask Spark
    except ImportError:
        raise UsageError(
            "The engine spark needs pyspark and sqlglot.",
            "Install them: pip install 'decision-ledger[spark]'.",
        ) from None
    builder = SparkSession.builder.master("local[*]").appName("decision-ledger")
    settings = {
        "spark.sql.session.timeZone": "UTC", "spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1", "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.log.level": "ERROR", "spark.sql.shuffle.partitions": "4", "spark.driver.memory": "4g",
        "spark.ui.showConsoleProgress": "false", "spark.sql.parquet.inferTimestampNTZ.enabled": "false",
        # As DuckDB has it: what lies beyond a list is null, and so is the size of no list.
        "spark.sql.ansi.enabled": "false", "spark.sql.legacy.sizeOfNull": "false",
    }  # fmt: skip
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    for text in SPARK_FUNCTIONS:
        session.sql(text)
    return session


class SparkQuery:
    """`events` of a ledger as of `at` entries, on Spark."""

    def __init__(self, session: Any, ledger: Ledger, at: int | None) -> None:
        self._session = session
        session.conf.set("spark.sql.caseSensitive", "true")
        self._define(ledger, at)

    def _define(self, ledger: Ledger, at: int | None) -> None:
        from pyspark.sql import functions as F  # noqa: N812, PLC0415 - as its users write it

        files = [one for one in ledger.committed(at) if one.kind == "events"]
        if not files:
            raise UsageError("There are no events yet.", "Ingest some first.")
        paths = {str(ledger.local_path(one.file)): one for one in files}
        frame = self._session.read.parquet(*(f"file://{path}" for path in paths))
        frame = frame.where(F.col(ERASED_LEAF).isNull()).drop(ERASED_LEAF)
        frame = frame.withColumn(
            "date", F.to_date(F.regexp_extract(F.col("_metadata.file_path"), "/date=([0-9-]{10})/", 1))
        )
        partial = [(path, begin, end) for path, one in paths.items() for begin, end in one.ranges or ()]
        if partial:
            frame = frame.where(self._counts(partial, [p for p, one in paths.items() if one.ranges is None]))
        frame.createOrReplaceTempView("events")

    def _counts(self, partial: list[tuple[str, int, int]], whole: list[str]) -> Any:
        """Whether a row counts: all of most files do, and ranges of those that were merged or cut."""
        from pyspark.sql import functions as F  # noqa: N812, PLC0415 - as above

        name, row = F.col("_metadata.file_name"), F.col("_metadata.row_index")
        found = name.isin([path.rpartition("/")[2] for path in whole])
        for path, begin, end in partial:
            found |= (name == path.rpartition("/")[2]) & (row >= begin) & (row < end)
        return found

    def trusted(self, text: str) -> pa.Table:
        """The answer to one of our statements."""
        return self._session.sql(spark_sql(text)).toArrow()
