"""The script that streamlit runs for every view of the dashboard."""

from __future__ import annotations

from dashboard.navigation import show

show()
