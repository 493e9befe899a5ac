"""A report's tables as CSV, Parquet, JSON and a workbook; what stands in an event stays text in all."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import xlsxwriter
from xlsxwriter.workbook import Workbook
from xlsxwriter.worksheet import Worksheet

from dashboard.report.tables import TABLES, Column, Table

_ARROW: Final = {
    "text": pa.string(), "count": pa.int64(), "number": pa.float64(), "share": pa.float64(),
    "time": pa.timestamp("us", "UTC"), "flag": pa.bool_(),
}  # fmt: skip
_FORMATS: Final = {"count": "#,##0", "number": "#,##0.0000", "share": "0.00%", "time": "yyyy-mm-dd hh:mm:ss"}
_WIDTHS: Final = {"text": 24, "count": 12, "number": 14, "share": 12, "time": 20, "flag": 8}
_MAX_CELL: Final = 32_767
"""Characters that a workbook's cell holds."""


def as_json(report: Mapping[str, Any]) -> bytes:
    """The report itself: indented, keys sorted."""
    return orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def as_csv(table: Table, rows: list[dict[str, Any]]) -> bytes:
    """One table as CSV (RFC 4180) in UTF-8: quoted where needed, null is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([column.name for column in table.columns])
    for row in rows:
        writer.writerow([_csv_cell(row.get(column.name)) for column in table.columns])
    return out.getvalue().encode()


def as_parquet(table: Table, rows: list[dict[str, Any]]) -> bytes:
    """One table as Parquet, typed even where it is empty."""
    arrays = [
        pa.array([_arrow_cell(column, row.get(column.name)) for row in rows], _ARROW[column.kind])
        for column in table.columns
    ]
    out = io.BytesIO()
    pq.write_table(
        pa.Table.from_arrays(arrays, [column.name for column in table.columns]), out, compression="zstd"
    )
    return out.getvalue()


def as_workbook(report: Mapping[str, Any]) -> bytes:
    """All tables as one workbook: a sheet each, typed, with a frozen heading and a filter."""
    out = io.BytesIO()
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    with xlsxwriter.Workbook(out, options) as book:
        book.set_properties({
            "title": f"Decision Ledger, week {report['week']['name']}",
            "created": datetime.fromisoformat(report["counted_at"]["time"]).replace(tzinfo=None),
        })  # fmt: skip
        _summary(book, report)
        for table in TABLES:
            _sheet(book, table, report[table.name])
    return out.getvalue()


def _summary(book: Workbook, report: Mapping[str, Any]) -> None:
    sheet = book.add_worksheet("Summary")
    sheet.set_column(0, 0, 24)
    sheet.set_column(1, 1, 90)
    bold, wrapped = book.add_format({"bold": True}), book.add_format({"text_wrap": True, "valign": "top"})
    at, window = report["counted_at"], report["window"]
    lines = [
        ("Week", report["week"]["name"]), ("In a sentence", report["headline"]),
        ("State", "preliminary" if report["preliminary"] else "settled"),
        ("From", report["week"]["start"]), ("To", report["week"]["end"]),
        ("Events in the week", window["events"]), ("Decisions", window["decisions"]),
        ("Denies", window["denies"]), ("First event", window["first"]), ("Last event", window["last"]),
        ("Ledger", at["origin"]), ("Counted at entry", at["size"]), ("Root at that entry", at["root"]),
        ("Verification", report["verification"]["result"]),
    ]  # fmt: skip
    for number, (name, value) in enumerate(lines):
        sheet.write_string(number, 0, name, bold)
        if isinstance(value, int):
            sheet.write_number(number, 1, value, book.add_format({"num_format": "#,##0", "align": "left"}))
        else:
            sheet.write_string(number, 1, value or "no data", wrapped)


def _sheet(book: Workbook, table: Table, rows: list[dict[str, Any]]) -> None:
    sheet = book.add_worksheet(table.title[:31])
    heading = book.add_format({"bold": True, "bottom": 1, "text_wrap": True})
    formats = {
        kind: book.add_format({"num_format": text, "valign": "top"}) for kind, text in _FORMATS.items()
    }
    plain = book.add_format({"valign": "top"})
    for number, column in enumerate(table.columns):
        sheet.write_string(0, number, column.heading.strip(), heading)
        sheet.set_column(number, number, _WIDTHS[column.kind])
    for line, row in enumerate(rows, 1):
        for number, column in enumerate(table.columns):
            shares = column.name in ("value", "target", "previous", "change") and row.get("unit") == "share"
            form = formats["share"] if shares else formats.get(column.kind, plain)
            _cell(sheet, (line, number), column, row.get(column.name), form)
    sheet.freeze_panes(1, 0)
    sheet.autofilter(0, 0, max(1, len(rows)), len(table.columns) - 1)


def _cell(sheet: Worksheet, at: tuple[int, int], column: Column, value: Any, form: Any) -> None:
    if value is None:
        sheet.write_blank(*at, None, form)
    elif column.kind in ("count", "number", "share"):
        sheet.write_number(*at, value, form)
    elif column.kind == "flag":
        sheet.write_boolean(*at, value, form)
    elif column.kind == "time":
        # A workbook knows no zones: all of its times are UTC.
        sheet.write_datetime(*at, datetime.fromisoformat(value).astimezone(UTC).replace(tzinfo=None), form)
    else:
        # Never `write`, which would make a formula of text that begins with an equals sign.
        sheet.write_string(*at, str(value)[:_MAX_CELL], form)


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def _arrow_cell(column: Column, value: Any) -> Any:
    if value is None or column.kind == "text":
        return value
    if column.kind == "time":
        return datetime.fromisoformat(value)
    return float(value) if column.kind in ("number", "share") else value
