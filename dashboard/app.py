"""The script that streamlit runs for every view of the dashboard."""

from __future__ import annotations

from dashboard.navigation import show

# Streamlit makes this the main module of its process. A worker process that is spawned from there, such as a
# verification's, loads the main module under another name, and must not draw pages.
if __name__ == "__main__":
    show()
